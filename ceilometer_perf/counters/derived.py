# SPDX-License-Identifier: Apache-2.0
"""Ratios of counters, from their growth between two readings.

Both readings must have the same ``since``: the counters did not restart.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ceilometer_perf.meters import (
    BRANCH_MISS_RATIO,
    CACHE_MISS_RATIO,
    CACHE_MPKI,
    IPC,
    Meter,
)
from ceilometer_perf.reading import SHORTEST, Counters


@dataclass(frozen=True, slots=True)
class Formula:
    """``scale`` times the growth of one counter over that of another."""

    meter: Meter
    over: str
    under: str
    scale: float

    def value(self, before: Counters, after: Counters) -> float | None:
        """In the meter's unit; None where it can't be computed."""
        keys = (self.over, self.under)
        if any(key not in before or key not in after for key in keys):
            return None
        over, under = (after[key] - before[key] for key in keys)
        return self.scale * over / under if under > 0 else None


FORMULAS = (
    Formula(IPC, "perf.instructions", "perf.cpu_cycles", 1),
    Formula(
        CACHE_MISS_RATIO, "perf.cache_misses", "perf.cache_references", 100
    ),
    Formula(
        BRANCH_MISS_RATIO, "perf.branch_misses", "perf.branch_instructions",
        100,
    ),
    Formula(CACHE_MPKI, "perf.cache_misses", "perf.instructions", 1000),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Earlier:
    taken_at: float
    since: datetime
    counters: Counters
    values: Mapping[str, float] = field(default_factory=dict)


class Derived:
    """Remembers each instance's earlier reading. Not safe for threads."""

    def __init__(self) -> None:
        self._earlier: dict[str, _Earlier] = {}

    def compute(
        self, uuid: str, taken_at: float, since: datetime, trusted: Counters
    ) -> Mapping[str, float]:
        """By meter key; empty until two readings have the same ``since``."""
        earlier = self._earlier.get(uuid)
        if earlier is None or earlier.since != since:
            self._earlier[uuid] = _Earlier(taken_at, since, trusted)
            return {}
        # Polling sources with different intervals sometimes read at nearly the
        # same time: the second gets the values of the first.
        if taken_at - earlier.taken_at < SHORTEST:
            return _still_trusted(earlier.values, trusted)
        values = {
            formula.meter.key: value
            for formula in FORMULAS
            if (value := formula.value(earlier.counters, trusted)) is not None
        }
        self._earlier[uuid] = _Earlier(taken_at, since, trusted, values)
        return values

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Forget instances that are gone from this host."""
        self._earlier = {u: e for u, e in self._earlier.items() if u in uuids}


def _still_trusted(
    values: Mapping[str, float], trusted: Counters
) -> Mapping[str, float]:
    return {
        formula.meter.key: values[formula.meter.key]
        for formula in FORMULAS
        if formula.meter.key in values
        and {formula.over, formula.under} <= trusted.keys()
    }
