# SPDX-License-Identifier: Apache-2.0
"""What is usual for one instance: a baseline of its own past, and a fence.

Median and median absolute deviation instead of mean and standard deviation,
which the very outliers that are looked for would spoil.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Cycles that are remembered at each load, and that are needed.
KEPT = 120
NEEDED = 30
#: Of deviation above the median; CPI2 has two standard deviations of a mean
#: that many machines share, Intel's platform resource manager three of one's
#: own.
SIGMAS = 3.0
#: A rise below this share of the median harms nobody, however rare it is.
MATERIAL = 0.1
#: Loads are told apart in steps of this share of the vCPUs.
STEP = 0.25
#: Cycles after which the fence is computed again.
SELDOM = 5
#: Loads that are remembered: those of the last cycles. There are fewer as long
#: as the instance may run on the same CPUs.
LOADS = 256

_TO_SIGMA = 1.4826  # of a normal distribution's median absolute deviation

Key = tuple[int, str]
"""A load in steps, and where it ran."""


@dataclass(frozen=True, slots=True)
class Usual:
    """The median of a cost, and what is beyond."""

    median: float
    fence: float


class History:
    """Of one cost of one instance, by load."""

    def __init__(self) -> None:
        self._values: dict[Key, deque[float]] = {}
        self._usual: dict[Key, Usual] = {}
        self._added: dict[Key, int] = {}

    def add(self, key: Key, cost: float) -> None:
        """Take this for usual at this load."""
        values = self._values.pop(key, None) or deque(maxlen=KEPT)
        values.append(cost)
        self._values[key] = values  # the last one
        self._forget_oldest()
        self._added[key] = self._added.get(key, 0) + 1
        if self._added[key] % SELDOM == 0:
            self._usual.pop(key, None)

    def usual(self, key: Key) -> Usual | None:
        """At this load or the nearest known; None if there is too little.

        Who is slowed down needs more CPU time for the same work, and so may
        get to a load at which it has never been before.
        """
        step, where = key
        known = [
            each
            for each in self._values
            if each[1] == where and self.cycles(each) >= NEEDED
        ]
        if not known:
            return None
        return self._at(min(known, key=lambda each: abs(each[0] - step)))

    def cycles(self, key: Key) -> int:
        """How many are remembered at this load."""
        return len(self._values.get(key, ()))

    def saved(self) -> Mapping[str, list[float]]:
        """As JSON has it."""
        return {
            f"{step}@{where}": [round(value, 4) for value in values]
            for (step, where), values in self._values.items()
        }

    def restore(self, saved: Mapping[str, Iterable[float]]) -> None:
        """What :meth:`saved` has given.

        :raises ValueError: it has not.
        """
        for text, values in saved.items():
            step, _, where = text.partition("@")
            costs = deque(map(float, values), KEPT)
            if not all(map(math.isfinite, costs)):
                raise ValueError(f"a cost at {text} that can't be")
            self._values[int(step), where] = costs
        self._forget_oldest()
        self._usual.clear()

    def _forget_oldest(self) -> None:
        while len(self._values) > LOADS:
            oldest = next(iter(self._values))
            for known in (self._values, self._usual, self._added):
                known.pop(oldest, None)

    def _at(self, key: Key) -> Usual:
        if key not in self._usual:
            values = self._values[key]
            median = statistics.median(values)
            deviation = statistics.median(abs(v - median) for v in values)
            above = max(SIGMAS * _TO_SIGMA * deviation, MATERIAL * median)
            self._usual[key] = Usual(median, median + above)
        return self._usual[key]
