# SPDX-License-Identifier: Apache-2.0
"""What is published of an instance's usage: levels, and growth per second."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from ceilometer_perf.sources.rdt.usage import LOCAL, OCCUPANCY, TOTAL, Usage

# Two readings that are closer than this are one reading's noise.
SHORTEST = 0.5  # seconds

# A freed RMID keeps its tag on cache lines, so that the next group that has
# it begins with another's occupancy. In this time a last-level cache is
# written over many times.
SETTLING = 1.0  # seconds

GROWTH = {
    "memory.bandwidth.total": TOTAL,
    "memory.bandwidth.local": LOCAL,
}


@dataclass(frozen=True, slots=True)
class _Earlier:
    began_at: float
    taken_at: float
    usage: Usage


class Rates:
    """Remembers each instance's earlier usage. Not safe for threads."""

    def __init__(self, l3_bytes: int) -> None:
        """``l3_bytes``: all L3 caches of the host, 0 for unknown."""
        self._l3_bytes = l3_bytes
        self._earlier: dict[str, _Earlier] = {}

    def compute(
        self, uuid: str, taken_at: float, usage: Usage
    ) -> Mapping[str, float]:
        """By meter key; what means nothing yet is left out."""
        earlier = self._earlier.get(uuid)
        if earlier is None or not _goes_on(earlier.usage, usage):
            self._earlier[uuid] = _Earlier(taken_at, taken_at, usage)
            # Only a group of ours is new just because it is new to us.
            return {} if usage.source == "resctrl" else self._levels(usage)
        values: dict[str, float] = {}
        if taken_at - earlier.began_at >= SETTLING or (
            usage.source != "resctrl"
        ):
            values.update(self._levels(usage))
        seconds = taken_at - earlier.taken_at
        if seconds >= SHORTEST:
            values.update(_growth(earlier.usage, usage, seconds))
            self._earlier[uuid] = _Earlier(earlier.began_at, taken_at, usage)
        return values

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Drop the memory of instances that are gone from this host."""
        self._earlier = {u: e for u, e in self._earlier.items() if u in uuids}

    def _levels(self, usage: Usage) -> Mapping[str, float]:
        held = usage.sum(OCCUPANCY)
        if held is None:
            return {}
        if not self._l3_bytes:
            return {"cpu_l3_cache": held}
        # The CPUs' estimates may add up to more than there is.
        share = min(100.0, 100 * held / self._l3_bytes)
        return {"cpu_l3_cache": held, "cpu_l3_cache.util": share}


def _goes_on(before: Usage, after: Usage) -> bool:
    return (before.source, before.identity) == (after.source, after.identity)


def _growth(
    before: Usage, after: Usage, seconds: float
) -> Mapping[str, float]:
    return {
        key: (new - old) / seconds
        for key, feature in GROWTH.items()
        if (old := before.sum(feature)) is not None
        and (new := after.sum(feature)) is not None
        # One that wrapped, or began anew, has no growth to tell; whether a
        # single bank fell shows only there.
        and not _fell(before, after, feature)
    }


def _fell(before: Usage, after: Usage, feature: str) -> bool:
    old, new = before.banks[feature], after.banks[feature]
    return old.keys() != new.keys() or any(
        (new[bank] or 0) < (old[bank] or 0) for bank in old
    )
