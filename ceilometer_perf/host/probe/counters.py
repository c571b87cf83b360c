# SPDX-License-Identifier: Apache-2.0
"""How many hardware events count at once before the kernel multiplexes.

libvirt doesn't read how long an event was on a counter, so events that take
turns are counted too low, and nothing shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ceilometer_perf.events import TYPES, Event
from ceilometer_perf.host.perf_event import Kernel, Pair
from ceilometer_perf.host.probe.trials import Trial

MOST = 32  # more than any CPU has
ALL_THE_TIME = 0.999  # what a counter of its own comes to


@dataclass(frozen=True, slots=True)
class Counters:
    """What a thread of this host finds free right now."""

    #: None if it can't be measured by this user.
    number: int | None
    #: The events that count together, in the order of EVENTS.
    together: tuple[Event, ...] = ()


def measure(found: Sequence[Trial], perf: Kernel) -> Counters:
    """Find room for each event in turn, the most useful ones first.

    Events differ in the counters that they can use, so one may still fit
    after another doesn't. When all fit, copies of the first show how much
    room is left.
    """
    tried = [t for t in found if t.event.kind == "hardware"]
    hardware = [trial.event for trial in tried if trial.works]
    if not hardware:
        unknown = any(trial.works is None for trial in tried)
        return Counters(None if unknown else 0)
    try:
        together = _fitting(hardware, perf)
        number = len(together)
        if number == len(hardware):
            number += _room(together, perf)
    except OSError:
        # The kernel's own part is not for this user.
        return Counters(None, tuple(hardware))
    return Counters(number, tuple(together))


def _fitting(events: Sequence[Event], perf: Kernel) -> list[Event]:
    chosen: list[Event] = []
    for event in events:
        if _fit([*chosen, event], perf):
            chosen.append(event)
    return chosen


def _room(chosen: list[Event], perf: Kernel) -> int:
    """How many more copies of an event fit."""
    copies = 0
    while len(chosen) + copies < MOST and _fit(
        [*chosen, *chosen[:1] * (copies + 1)], perf
    ):
        copies += 1
    return copies


def _fit(events: Sequence[Event], perf: Kernel) -> bool:
    pairs: list[Pair] = [(TYPES[e.kind], e.config) for e in events]
    return perf.share(pairs) >= ALL_THE_TIME
