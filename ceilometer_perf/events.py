# SPDX-License-Identifier: Apache-2.0
"""libvirt's perf events: what it opens for each, and since when it does.

The table of libvirt's ``virperf.c``. libvirt accepts no other name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Version = tuple[int, int, int]

Kind = Literal["hardware", "software", "intel_cqm"]

#: Of ``linux/perf_event.h``; that of intel_cqm is in sysfs, where it exists.
TYPES: Mapping[Kind, int] = MappingProxyType({"hardware": 0, "software": 1})

_V1_3_3, _V1_3_5 = (1, 3, 3), (1, 3, 5)
_V2_3, _V3_0, _V3_2 = (2, 3, 0), (3, 0, 0), (3, 2, 0)


@dataclass(frozen=True, slots=True)
class Event:
    """One of libvirt's events.

    ``config`` is the kernel's number of it, within its ``kind``; ``since``
    the first libvirt that has it. ``unit`` and ``description`` are those of
    its meter.
    """

    name: str
    kind: Kind
    config: int
    since: Version
    unit: str = ""
    description: str = ""

    @property
    def key(self) -> str:
        """Its key in libvirt's bulk statistics."""
        return f"perf.{self.name}"


#: Hardware events stand in the order in which they are worth a counter, for
#: hosts with fewer counters than events. First the pairs that make a ratio:
#: instructions per cycle, cache misses, branch misses. What a stalled cycle is
#: differs from one CPU model to the next, and the bus cycles come close to the
#: task clock times a constant. The reference cycles are the CPU cycles again:
#: libvirt asks with ``#ifdef`` whether the kernel's headers have them, where
#: they are no macro, and so opens event 0 instead of 9.
_TABLE = (
    Event("instructions", "hardware", 1, _V2_3,
          "instruction", "Retired instructions"),
    Event("cpu_cycles", "hardware", 0, _V2_3,
          "cycle", "CPU cycles"),
    Event("cache_misses", "hardware", 3, _V2_3,
          "miss", "Last-level cache accesses that went to memory"),
    Event("cache_references", "hardware", 2, _V2_3,
          "reference", "Accesses to the last-level cache"),
    Event("branch_misses", "hardware", 5, _V3_0,
          "miss", "Mispredicted branches"),
    Event("branch_instructions", "hardware", 4, _V3_0,
          "branch", "Retired branch instructions"),
    Event("stalled_cycles_backend", "hardware", 8, _V3_0,
          "cycle", "Cycles in which no instruction could be retired"),
    Event("stalled_cycles_frontend", "hardware", 7, _V3_0,
          "cycle", "Cycles in which no instruction could be issued"),
    Event("bus_cycles", "hardware", 6, _V3_0,
          "cycle", "Bus cycles"),
    Event("ref_cpu_cycles", "hardware", 0, _V3_0,
          "cycle", "CPU cycles again: libvirt opens no other event"),
    Event("cpu_clock", "software", 0, _V3_2,
          "ns", "Time on a CPU, by the CPU's clock"),
    Event("task_clock", "software", 1, _V3_2,
          "ns", "Time on a CPU, by the task's clock"),
    Event("page_faults", "software", 2, _V3_2,
          "fault", "Page faults, minor and major"),
    Event("context_switches", "software", 3, _V3_2,
          "switch", "Context switches"),
    Event("cpu_migrations", "software", 4, _V3_2,
          "migration", "Moves to another CPU"),
    Event("page_faults_min", "software", 5, _V3_2,
          "fault", "Page faults without disk I/O"),
    Event("page_faults_maj", "software", 6, _V3_2,
          "fault", "Page faults with disk I/O"),
    Event("alignment_faults", "software", 7, _V3_2,
          "fault", "Unaligned accesses that the kernel fixed up"),
    Event("emulation_faults", "software", 8, _V3_2,
          "fault", "Instructions that the kernel emulated"),
    Event("cmt", "intel_cqm", 1, _V1_3_3),
    Event("mbmt", "intel_cqm", 2, _V1_3_5),
    Event("mbml", "intel_cqm", 3, _V1_3_5),
)  # fmt: skip

EVENTS: Mapping[str, Event] = MappingProxyType({e.name: e for e in _TABLE})
"""By name."""
