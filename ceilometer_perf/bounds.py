# SPDX-License-Identifier: Apache-2.0
"""What no CPU counts: events that grow too little or too much.

A PMU may open events without error and not count them: in virtual machines,
under nested virtualization, and where somebody else holds the counters. No
time that the kernel reports shows it, only the counts themselves, compared
with the CPU time that went by.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ceilometer_perf.events import EVENTS

CYCLES = EVENTS["cpu_cycles"].key
_HARDWARE = tuple(e.key for e in EVENTS.values() if e.kind == "hardware")


@dataclass(frozen=True, slots=True)
class Bound:
    """What an event grows by, at least and at most.

    In a second of CPU time, or in a cycle.
    """

    key: str
    least: float
    most: float
    per_cycle: bool = True


_CYCLES = Bound(CYCLES, 2e7, 1e10, per_cycle=False)

#: Far from what any CPU does. Caches and mispredictions have no lower bound: a
#: small loop may go without.
BOUNDS = (
    _CYCLES,
    Bound("perf.ref_cpu_cycles", 2e7, 1e10, per_cycle=False),
    Bound("perf.bus_cycles", 1e5, 1e10, per_cycle=False),
    Bound("perf.instructions", 1e-3, 16),
    Bound("perf.branch_instructions", 1e-5, 8),
    Bound("perf.branch_misses", 0, 2),
    Bound("perf.cache_references", 0, 4),
    Bound("perf.cache_misses", 0, 4),
)


def beyond(
    growth: Mapping[str, float], seconds: float
) -> Iterator[tuple[str, str]]:
    """The keys of what can't have grown like that in this CPU time, and why.

    All hardware events if it is the cycles: then the PMU as a whole is wrong.
    """
    for bound in BOUNDS:
        if bound.key not in growth:
            continue
        why = _beyond(bound, growth, seconds)
        if why and bound is _CYCLES:
            yield from dict.fromkeys(_HARDWARE, why).items()
            return
        if why:
            yield bound.key, why


def _beyond(
    bound: Bound, growth: Mapping[str, float], seconds: float
) -> str | None:
    cycles = growth.get(CYCLES) if bound.per_cycle else None
    per, unit = (
        (cycles, "cycle") if cycles else (seconds, "second of CPU time")
    )
    least, most = bound.least, bound.most
    if bound.per_cycle and not cycles:
        least, most = least * _CYCLES.least, most * _CYCLES.most
    rate = growth[bound.key] / per
    if least <= rate <= most:
        return None
    return f"{rate:.3g} {bound.key.removeprefix('perf.')} in a {unit}"
