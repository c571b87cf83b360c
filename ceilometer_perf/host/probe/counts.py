# SPDX-License-Identifier: Apache-2.0
"""Whether the events that open count what the CPU does.

A PMU may open them and not count: see :mod:`ceilometer_perf.bounds`.
"""

from collections.abc import Mapping, Sequence

from ceilometer_perf import bounds
from ceilometer_perf.events import TYPES, Event
from ceilometer_perf.host.perf_event import Growth, Kernel

#: A hypervisor may hold up the CPU in one of them.
_TRIES = 3


def lies(hardware: Sequence[Event], perf: Kernel) -> Mapping[str, str]:
    """By name, those of these events that can't be right, and why."""
    for _ in range(_TRIES):
        told = dict(bounds.beyond(_rates(hardware, perf), 1.0))
        if not told:
            break
    return {
        event.name: f"it opens, and counts what no CPU does: {told[event.key]}"
        for event in hardware
        if event.key in told
    }


def _rates(events: Sequence[Event], perf: Kernel) -> Mapping[str, float]:
    """By key, how much each counts in a second of CPU time."""
    grown = {event.key: _count(event, perf) for event in events}
    return {
        key: each.count / each.running * 1e9
        for key, each in grown.items()
        if each.running  # else another has the counters
    }


def _count(event: Event, perf: Kernel) -> Growth:
    pair = (TYPES[event.kind], event.config)
    try:
        return perf.count(pair)
    except OSError:  # the kernel's own part is not for this user
        return perf.count(pair, user_only=True)
