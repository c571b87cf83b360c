# SPDX-License-Identifier: Apache-2.0
"""What libvirt opens for each perf event: the table of its ``virperf.c``."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["hardware", "software", "intel_cqm"]

#: Of ``linux/perf_event.h``; that of intel_cqm is in sysfs, where it exists.
TYPES: Mapping[Kind, int] = MappingProxyType({"hardware": 0, "software": 1})


@dataclass(frozen=True, slots=True)
class Event:
    """One of libvirt's events, as the kernel knows it."""

    name: str
    kind: Kind
    config: int


def _named(kind: Kind, **configs: int) -> dict[str, Event]:
    return {name: Event(name, kind, no) for name, no in configs.items()}


#: Hardware events stand in the order in which they are worth a counter, for
#: hosts with fewer counters than events. First the pairs that make a ratio:
#: instructions per cycle, cache misses, branch misses. What a stalled cycle is
#: differs from one CPU model to the next, and the bus cycles come close to the
#: task clock times a constant. The reference cycles are the CPU cycles again:
#: libvirt asks with ``#ifdef`` whether the kernel's headers have them, where
#: they are no macro, and so opens event 0 instead of 9.
EVENTS: Mapping[str, Event] = MappingProxyType(
    _named(
        "hardware",
        instructions=1,
        cpu_cycles=0,
        cache_misses=3,
        cache_references=2,
        branch_misses=5,
        branch_instructions=4,
        stalled_cycles_backend=8,
        stalled_cycles_frontend=7,
        bus_cycles=6,
        ref_cpu_cycles=0,
    )
    | _named(
        "software",
        cpu_clock=0,
        task_clock=1,
        page_faults=2,
        context_switches=3,
        cpu_migrations=4,
        page_faults_min=5,
        page_faults_maj=6,
        alignment_faults=7,
        emulation_faults=8,
    )
    | _named("intel_cqm", cmt=1, mbmt=2, mbml=3)
)
