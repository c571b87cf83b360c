# SPDX-License-Identifier: Apache-2.0
"""What a sample must say, by what libvirt told the agent.

Worked out here from libvirt's words once more, by none of the product's own
arithmetic: a mistake of that has to show.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ceilometer_perf.meters import (
    BANDWIDTH_LOCAL,
    BANDWIDTH_TOTAL,
    BRANCH_MISS_RATIO,
    CACHE_MISS_RATIO,
    CACHE_MPKI,
    COVERAGE,
    IPC,
    L3_CACHE,
    L3_CACHE_UTIL,
    NEIGHBOURS,
    PERF_KEYS,
    RDT_KEYS,
    WAITING,
    WITHHELD,
    Meter,
)
from ceilometer_perf.reading import SHORTEST
from tests.chain.agents import Sent, Series
from tests.chain.wire import Stats, Wire

#: By meter: growth of the first, over that of the second, times the third.
RATIOS = {
    IPC.name: ("perf.instructions", "perf.cpu_cycles", 1),
    CACHE_MISS_RATIO.name: (
        "perf.cache_misses", "perf.cache_references", 100,
    ),
    BRANCH_MISS_RATIO.name: (
        "perf.branch_misses", "perf.branch_instructions", 100,
    ),
    CACHE_MPKI.name: ("perf.cache_misses", "perf.instructions", 1000),
}  # fmt: skip

#: By meter: the perf event, and what monitors have instead, for each bank.
CACHE = ("perf.cmt", r"cpu\.cache\.monitor\.\d+\.bank\.\d+\.bytes")
_NODE = r"memory\.bandwidth\.monitor\.\d+\.node\.\d+\.bytes\."
TRAFFIC = {
    BANDWIDTH_TOTAL.name: ("perf.mbmt", f"{_NODE}total"),
    BANDWIDTH_LOCAL.name: ("perf.mbml", f"{_NODE}local"),
}
# What an answer has if it was about these at all.
PERF = "perf.task_clock"
PERF_METER = "perf.sw.task_clock"
EVENTS = "perf.cmt"
MONITORS = "cpu.cache.monitor.count"


def timestamp(sample: Mapping[str, str]) -> float:
    """When it was read, in seconds since 1970."""
    at = datetime.fromisoformat(sample["timestamp"])
    return at.replace(tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Given:
    """What libvirt's words come to, and when the last of them were said.

    None is no value: its words have none. ``at`` is seconds since 1970.
    """

    value: float | None
    at: float


class Expected:
    """What libvirt's words come to, sample by sample.

    ``l3`` is the bytes of all L3 caches; ``coverage`` is by instance UUID, as
    of the end, which is all that libvirt has to say of it.
    """

    def __init__(
        self, wire: Wire, l3: int, coverage: Mapping[str, float]
    ) -> None:
        self._wire = wire
        self._l3 = l3
        self._coverage = coverage

    def given(
        self, meter: Meter, series: Series, sample: Mapping[str, Any]
    ) -> Given:
        """What this sample is made of; ``series`` is of all samples."""
        if meter in (*WAITING, *NEIGHBOURS):
            # Of this libvirt has no words: the way from the agent is checked.
            return Given(sample["counter_volume"], timestamp(sample))
        uuid = sample["resource_id"]
        by_perf = self._wire.told(uuid, EVENTS)
        mark = EVENTS if by_perf else MONITORS
        told = [
            (at, stats)
            for at, stats in self._wire.told(
                uuid, mark if meter.key in RDT_KEYS else PERF
            )
            if at <= timestamp(sample)
        ]
        at, after = told[-1]
        if meter == COVERAGE:
            return Given(self._coverage.get(uuid), at)
        if meter == WITHHELD:
            # Those that came later: in the chain nothing else goes wrong.
            return Given(len(after.keys() - told[0][1].keys()), at)
        if meter.key in PERF_KEYS:
            # Not by the meter's key, which may be another's.
            event = meter.name.rpartition(".")[2]
            return Given(after.get(f"perf.{event}"), at)
        if meter.name in RATIOS:
            first, last, _ = _span(series[uuid, PERF_METER], sample)
            before, after = told[first][1], told[last][1]
            return Given(_ratio(*RATIOS[meter.name], before, after), at)
        if meter.name in TRAFFIC:
            keys = TRAFFIC[meter.name]
            first, last, seconds = _span(series[uuid, L3_CACHE.name], sample)
            grown = _sum(told[last][1], keys) - _sum(told[first][1], keys)
            return Given(grown / seconds, at)
        held = _sum(after, CACHE)
        return Given(
            100 * held / self._l3 if meter == L3_CACHE_UTIL else held, at
        )


def _ratio(
    over: str, under: str, scale: int, before: Stats, after: Stats
) -> float:
    value: float = (
        scale * (after[over] - before[over]) / (after[under] - before[under])
    )
    return value


def _span(
    cycles: Sequence[Sent], sample: Mapping[str, Any]
) -> tuple[int, int, float]:
    """Between which readings growth was measured, and the seconds between.

    Counted from the end: -1 is that of this sample, and -2 the one before. One
    that followed another too closely is passed over.
    """
    now: float = sample["monotonic_time"]
    every = {each.sample["monotonic_time"] for each in cycles}
    times = sorted(time for time in every if time <= now)
    first = last = 0
    for index, time in enumerate(times):
        if time - times[last] >= SHORTEST:
            first, last = last, index
    seconds = times[last] - times[first]
    return first - len(times), last - len(times), seconds


def _sum(stats: Stats, keys: tuple[str, str]) -> int:
    event, banks = keys
    if event in stats:
        return int(stats[event])
    return sum(n for key, n in stats.items() if re.fullmatch(banks, key))
