# SPDX-License-Identifier: Apache-2.0
"""What is published of an instance's usage: levels, and growth per second."""

import dataclasses
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ceilometer_perf import meters
from ceilometer_perf.meters import (
    BANDWIDTH_LOCAL,
    BANDWIDTH_TOTAL,
    CORE_POWER,
    L3_CACHE,
    L3_CACHE_UTIL,
)
from ceilometer_perf.rdt.usage import (
    CORE_ENERGY,
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Usage,
)
from ceilometer_perf.reading import SHORTEST

BANDWIDTH = {BANDWIDTH_TOTAL.key: TOTAL, BANDWIDTH_LOCAL.key: LOCAL}
GROWTH = {**BANDWIDTH, CORE_POWER.key: CORE_ENERGY}

FEATURES = {
    L3_CACHE.key: OCCUPANCY,
    L3_CACHE_UTIL.key: OCCUPANCY,
    meters.CORE_ENERGY.key: CORE_ENERGY,
    **GROWTH,
}
"""What each meter is read from."""

Sizes = Mapping[int, int]
"""Bytes of each L3 cache by its id."""

#: Bytes per second of a bank: what HBM next to a CPU reaches at best. Counters
#: that leap (an RMID that was used before, an overflow) come to more.
MOST_BANDWIDTH = 1.7e12
#: Of a cache's size. Its occupancy is an estimate.
MOST_OF_CACHE = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """A meter's value, and the share of each cache or package, by its id."""

    value: float
    banks: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """By meter key, and since when the counters behind them go on.

    What no machine can do is not among the values.
    """

    since: datetime
    values: Mapping[str, Figure]
    #: By meter key, what was counted instead of a value.
    beyond: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Earlier:
    since: datetime
    began_at: float
    first: Usage
    taken_at: float
    usage: Usage
    growth: Mapping[str, Figure] = field(default_factory=dict)


class Rates:
    """Remembers each instance's earlier usage. Not safe for threads."""

    def __init__(self) -> None:
        self._earlier: dict[str, _Earlier] = {}

    def compute(
        self, uuid: str, taken_at: float, usage: Usage, l3: Sizes
    ) -> Figures:
        """Levels and rates; those not known yet are left out.

        A rate takes two readings of the same counters, and a level of a new
        one perhaps some time. ``l3`` is empty if sizes aren't known.
        """
        earlier = self._earlier.get(uuid)
        if earlier is None or not _goes_on(earlier, usage):
            earlier = _Earlier(
                datetime.now(UTC), taken_at, usage, taken_at, usage
            )
            self._earlier[uuid] = earlier
        settled = taken_at - earlier.began_at >= usage.settling
        values = dict(_levels(usage, l3)) if settled else {}
        seconds = taken_at - earlier.taken_at
        if seconds >= SHORTEST:
            earlier = self._earlier[uuid] = dataclasses.replace(
                earlier,
                taken_at=taken_at,
                usage=usage,
                growth=_growth(earlier.usage, usage, seconds),
            )
        # Polling sources with different intervals sometimes read at nearly the
        # same time: the second gets the rates of the first.
        values.update(_still_known(earlier.growth, usage))
        values.update(_energy(earlier.first, usage))
        beyond = {**_beyond_caches(usage, l3), **_beyond_memory(values)}
        return Figures(
            earlier.since,
            {k: figure for k, figure in values.items() if k not in beyond},
            {k: why for k, why in beyond.items() if k in values},
        )

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Forget instances that are gone from this host."""
        self._earlier = {u: e for u, e in self._earlier.items() if u in uuids}


def _levels(usage: Usage, l3: Sizes) -> Mapping[str, Figure]:
    held = usage.sum(OCCUPANCY)
    if held is None:
        return {}
    banks = usage.known(OCCUPANCY)
    values = {L3_CACHE.key: Figure(held, banks)}
    if size := sum(l3.values()):
        shares = {b: _share(n, l3[b]) for b, n in banks.items() if l3.get(b)}
        values[L3_CACHE_UTIL.key] = Figure(_share(held, size), shares)
    return values


def _beyond_caches(usage: Usage, l3: Sizes) -> Mapping[str, str]:
    for bank, held in usage.known(OCCUPANCY).items():
        size = l3.get(bank)
        if size and held > MOST_OF_CACHE * size:
            why = f"{held:.3g} B in L3 cache {bank}, which has {size:.3g} B"
            return {L3_CACHE.key: why, L3_CACHE_UTIL.key: why}
    return {}


def _beyond_memory(values: Mapping[str, Figure]) -> Mapping[str, str]:
    most = {
        key: max(values[key].banks.values())
        for key in BANDWIDTH
        if key in values
    }
    return {
        key: f"{rate:.3g} B/s through one L3 cache or node, more than any "
        "memory does"
        for key, rate in most.items()
        if rate > MOST_BANDWIDTH
    }


def _share(held: float, size: int) -> float:
    # The CPUs' estimates may add up to more than there is.
    return min(100.0, 100 * held / size)


def _goes_on(earlier: _Earlier, after: Usage) -> bool:
    before = earlier.usage
    same = (before.source, before.identity) == (after.source, after.identity)
    return same and _used_more(earlier, after)


def _used_more(earlier: _Earlier, after: Usage) -> bool:
    """Whether energy goes on from the first reading; it never falls.

    If that had no number, it begins with the first one that has.
    """
    if after.sum(CORE_ENERGY) is None:
        return True
    known = (
        usage
        for usage in (earlier.first, earlier.usage)
        if usage.sum(CORE_ENERGY) is not None
    )
    return earlier.first.sum(CORE_ENERGY) is not None and all(
        _grown(usage, after, CORE_ENERGY) for usage in known
    )


def _energy(first: Usage, usage: Usage) -> Mapping[str, Figure]:
    """Since the first reading: an RMID keeps what its last group used."""
    grown = _grown(first, usage, CORE_ENERGY)
    if not grown:
        return {}
    return {meters.CORE_ENERGY.key: Figure(sum(grown.values()), grown)}


def _growth(
    before: Usage, after: Usage, seconds: float
) -> Mapping[str, Figure]:
    return {
        key: Figure(
            sum(grown.values()) / seconds,
            {bank: n / seconds for bank, n in grown.items()},
        )
        for key, feature in GROWTH.items()
        if (grown := _grown(before, after, feature))
    }


def _still_known(
    growth: Mapping[str, Figure], usage: Usage
) -> Mapping[str, Figure]:
    return {
        key: figure
        for key, figure in growth.items()
        if usage.sum(GROWTH[key]) is not None
    }


def _grown(before: Usage, after: Usage, feature: str) -> Mapping[int, float]:
    """Growth of each bank; empty if a bank wrapped, restarted or is new.

    Banks are compared one by one: the sum may grow although one bank fell.
    """
    if before.sum(feature) is None or after.sum(feature) is None:
        return {}
    old, new = before.known(feature), after.known(feature)
    if old.keys() != new.keys() or any(new[bank] < old[bank] for bank in old):
        return {}
    return {bank: new[bank] - old[bank] for bank in new}
