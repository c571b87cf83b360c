# SPDX-License-Identifier: Apache-2.0
"""The vocabulary: every meter is one row of one table.

Nothing else in this project spells a meter's name or type. Names are
Ceilometer sample names and, as Ceilometer distinguishes pollsters only by
name, the names of the entry points too; none of them is one of core's.
"""

from dataclasses import dataclass
from typing import Literal

from ceilometer_perf.events import EVENTS, Event, Version

MeterType = Literal["cumulative", "gauge"]


@dataclass(frozen=True, slots=True)
class Meter:
    """One row: what is published, and which counter it is read from.

    ``key`` is the counter's key in a reading. For perf events it is the key
    that libvirt's bulk statistics use (``perf.NAME``,
    ``virConnectGetAllDomainStats``), so that a reading is libvirt's answer
    as it stands; what is computed has its own meter's name for a key.
    ``since`` is the first libvirt that has the event
    (``virDomainSetPerfEvents``); older ones leave the key out.
    """

    name: str
    type: MeterType
    unit: str
    key: str
    description: str
    since: Version = (0, 0, 0)

    @property
    def pollster(self) -> str:
        """Its pollster's class: ``HwCpuCycles`` of perf.hw.cpu_cycles."""
        words = self.name.removeprefix("perf.").replace(".", "_").split("_")
        return "".join(word.capitalize() for word in words)


_GROUPS = {"hardware": "hw", "software": "sw"}


def _counted(event: Event) -> Meter:
    """The meter of a perf event that only grows."""
    return Meter(
        name=f"perf.{_GROUPS[event.kind]}.{event.name}",
        type="cumulative",
        unit=event.unit,
        key=event.key,
        description=event.description,
        since=event.since,
    )


def _computed(name: str, unit: str, description: str) -> Meter:
    """A level that this project works out from other counters."""
    return Meter(name, "gauge", unit, key=name, description=description)


COVERAGE = _computed(
    "perf.coverage",
    "ratio",
    "Share of the instance's CPU time that the counters saw",
)
WITHHELD = _computed(
    "perf.withheld",
    "counter",
    "Perf counters of the instance that are withheld",
)
IPC = _computed(
    "perf.derived.ipc",
    "instruction/cycle",
    "Instructions per cycle",
)
CACHE_MISS_RATIO = _computed(
    "perf.derived.cache_miss_ratio",
    "%",
    "Share of cache references that miss",
)
BRANCH_MISS_RATIO = _computed(
    "perf.derived.branch_miss_ratio",
    "%",
    "Share of branches that are mispredicted",
)
CACHE_MPKI = _computed(
    "perf.derived.cache_mpki",
    "miss/1000 instruction",
    "Cache misses per 1,000 instructions",
)


L3_CACHE = _computed("cpu_l3_cache", "B", "Bytes held in the L3 caches")
L3_CACHE_UTIL = _computed(
    "cpu_l3_cache.util",
    "%",
    "Share of the host's L3 caches held",
)
BANDWIDTH_TOTAL = _computed(
    "memory.bandwidth.total",
    "B/s",
    "Traffic with the memory of all NUMA nodes",
)
BANDWIDTH_LOCAL = _computed(
    "memory.bandwidth.local",
    "B/s",
    "Traffic with the memory of the CPU's own NUMA node",
)

CACHE = (L3_CACHE, L3_CACHE_UTIL, BANDWIDTH_TOTAL, BANDWIDTH_LOCAL)
"""Core's former names, under which dashboards and Watcher ask for them."""

CORE_ENERGY = Meter(
    name="perf.energy",
    type="cumulative",
    unit="J",
    key="perf.energy",
    description="Energy that the CPUs' cores used for the instance",
)
CORE_POWER = _computed(
    "perf.power",
    "W",
    "Power that the CPUs' cores used for the instance",
)
ENERGY = (CORE_ENERGY, CORE_POWER)

RDT = (*CACHE, *ENERGY)
"""What Resource Director Technology or its like of AMD and Arm counts."""

SCHED_DELAY = Meter(
    name="perf.sched.delay",
    type="cumulative",
    unit="ns",
    key="perf.sched.delay",
    description="Time that the instance's vCPUs waited for a CPU",
)
SCHED_DELAY_RATIO = _computed(
    "perf.sched.delay_ratio",
    "ratio",
    "Share of their time that its vCPUs waited for a CPU",
)


def _pressure(resource: str, what: str) -> Meter:
    return _computed(
        f"perf.psi.{resource}",
        "%",
        f"Share of a minute in which the instance waited for {what}",
    )


PRESSURES = {
    "cpu": _pressure("cpu", "a CPU"),
    "memory": _pressure("memory", "memory"),
    "io": _pressure("io", "disks"),
}
"""Pressure stall information, by the kernel's names of what is short."""

WAITING = (SCHED_DELAY, SCHED_DELAY_RATIO, *PRESSURES.values())
"""What the kernel accounts for by itself."""

VICTIM = _computed(
    "perf.neighbour.victim",
    "ratio",
    "Share of its speed that another instance takes from it",
)
CULPRIT = _computed(
    "perf.neighbour.culprit",
    "ratio",
    "How surely it is this instance that slows another one down",
)

NEIGHBOURS = (VICTIM, CULPRIT)
"""What is concluded from all the others."""

METERS: tuple[Meter, ...] = (
    *(_counted(e) for e in EVENTS.values() if e.kind in _GROUPS),
    COVERAGE,
    WITHHELD,
    IPC,
    CACHE_MISS_RATIO,
    BRANCH_MISS_RATIO,
    CACHE_MPKI,
    *RDT,
    *WAITING,
    *NEIGHBOURS,
)

PERF_KEYS = frozenset(e.key for e in EVENTS.values() if e.kind in _GROUPS)
"""The keys of libvirt's perf events that have a meter each."""

HARDWARE_KEYS = frozenset(
    e.key for e in EVENTS.values() if e.kind == "hardware"
)
"""Those among them that need one of the PMU's counters each."""

RDT_KEYS = frozenset(m.key for m in RDT)
"""The keys of what is read in the caches, at the memory and in the cores."""

ENERGY_KEYS = frozenset(m.key for m in ENERGY)
"""Of those, what only some CPUs count."""

WAITING_KEYS = frozenset(m.key for m in WAITING)
"""The keys of what needs no counter at all."""

NEIGHBOUR_KEYS = frozenset(m.key for m in NEIGHBOURS)
"""The keys of what is concluded."""

RDT_NAMES = frozenset(m.name for m in RDT)
"""Their meters' names."""

RDT_EVENTS = {
    "perf.cmt": L3_CACHE.name,
    "perf.mbmt": BANDWIDTH_TOTAL.name,
    "perf.mbml": BANDWIDTH_LOCAL.name,
}
"""libvirt's perf events of kernels before 4.14, and the meters they feed."""

LEVELS = frozenset({"perf.cmt"})
"""Perf events that may fall without having restarted."""
