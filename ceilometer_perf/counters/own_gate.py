# SPDX-License-Identifier: Apache-2.0
"""The gate for counters that the agent's own helper counts.

They are opened on every thread that there is, and inherited by those that
start later. So the time in which they were enabled must be the CPU time of
the process, whatever it is that they count. Where it is less, threads were
missed; where it is more, some are counted twice.
"""

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.coverage import Measure, Point
from ceilometer_perf.counters.trust import Judged, Policy
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.host.counting import Count
from ceilometer_perf.host.processes import Process
from ceilometer_perf.reading import utc_now

#: The largest coverage that a measuring error explains.
MAX_COVERAGE = 1.1


@dataclass(slots=True)
class _Life:
    """Of the counters of one process, from their opening on."""

    opened: int
    since: datetime
    measure: Measure
    #: The ns enabled, and missed, when each event was published last, if ever.
    enabled: list[int]
    missed: list[int]
    coverage: float | None = None

    def shares(self, count: Count) -> list[float]:
        """Of the time since then, in which each event was on a counter."""
        return [
            _share(count.enabled - enabled, now - before)
            for enabled, now, before in zip(
                self.enabled, count.missed, self.missed, strict=True
            )
        ]


class OwnGate:
    """Remembers instances from cycle to cycle. Not safe for threads."""

    def __init__(self, policy: Policy, keys: Sequence[str]) -> None:
        """``keys``: of the events, in the order of their counts."""
        self._policy = policy
        self._keys = keys
        self._lives: dict[str, _Life] = {}

    def judge(
        self, uuid: str, count: Count, process: Process, stolen: int,
        late: float,
    ) -> Judged:  # fmt: skip
        """Judge every counter of one instance.

        ``process`` was read ``late`` seconds before or after the counters, at
        most; ``stolen`` is what was taken from the host's CPUs, in ns.
        """
        now = Point.seen(count.enabled, process, stolen, late)
        life = self._lives.get(uuid)
        if life is None or life.opened != count.opened:
            life = self._lives[uuid] = _begun(count, now)
            whole = verdicts.NEW
        else:
            whole = self._whole(life, count, now)
        judgements, share = dict.fromkeys(self._keys, whole), 1.0
        if whole is verdicts.OK:
            if count.missed:
                judgements, share = self._taking_turns(life, count)
            else:
                life.enabled = [count.enabled] * len(self._keys)
        return Judged(judgements, life.coverage, life.since, share=share)

    def is_wrong(self, uuid: str) -> bool:
        """Whether the counters have to be opened again."""
        life = self._lives.get(uuid)
        return life is not None and self._wrong(life)

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Forget instances that are not counted any more."""
        self._lives = {u: v for u, v in self._lives.items() if u in uuids}

    def _whole(self, life: _Life, count: Count, now: Point) -> Judgement:
        """Of all counters of an instance."""
        if max(count.counts) < 0:  # there are none, and no time is theirs
            return verdicts.OK
        floor = self._policy.coverage_floor * 1e9
        coverage = life.measure.coverage(now, floor)
        life.coverage = life.coverage if coverage is None else coverage
        if life.coverage is None and self._policy.withhold_in_doubt:
            return verdicts.UNMEASURED
        if life.coverage is not None and self._wrong(life):
            return verdicts.miscounted(life.coverage)
        return verdicts.OK

    def _wrong(self, life: _Life) -> bool:
        least = self._policy.min_coverage
        return life.coverage is not None and not (
            least <= life.coverage <= MAX_COVERAGE
        )

    def _taking_turns(
        self, life: _Life, count: Count
    ) -> tuple[dict[str, Judgement], float]:
        """Of events not all of which were always on counters.

        And the smallest share of those that are published.
        """
        shares = life.shares(count)
        least = self._policy.min_running
        judgements = [
            verdicts.OK if share >= least else verdicts.took_turns(share)
            for share in shares
        ]
        published = _published(life, count, shares, judgements)
        return (
            dict(zip(self._keys, judgements, strict=True)),
            min(published, default=1.0),
        )


def _begun(count: Count, now: Point) -> _Life:
    return _Life(
        opened=count.opened,
        since=utc_now() - timedelta(seconds=_age(count.opened)),
        measure=Measure(now, now),
        enabled=[0] * len(count.counts),
        missed=[0] * len(count.counts),
    )


def _age(opened: int) -> float:
    """Seconds since then, which is in ns of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - opened / 1e9


def _published(
    life: _Life, count: Count, shares: list[float], judgements: list[Judgement]
) -> Iterator[float]:
    """The shares of the published events, which are remembered as such.

    Or those since the opening, if less: a total that was scaled once stays
    an estimate.
    """
    for number, judgement in enumerate(judgements):
        if judgement is verdicts.OK:
            life.enabled[number] = count.enabled
            life.missed[number] = missed = count.missed[number]
            yield min(shares[number], _share(count.enabled, missed))


def _share(enabled: int, missed: int) -> float:
    return (enabled - missed) / enabled if enabled > 0 else 1.0
