# SPDX-License-Identifier: Apache-2.0
"""The gate for counters that the agent's own helper counts.

They are opened on every thread that there is, and inherited by those that
start later. So the time in which they were enabled must be the CPU time of
the process, whatever it is that they count. Where it is less, threads were
missed; where it is more, some are counted twice.
"""

import time
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.coverage import Measure, Point
from ceilometer_perf.counters.trust import Judged, Policy
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.events import EVENTS
from ceilometer_perf.host.counting import Count
from ceilometer_perf.host.perf_groups import Total
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
    coverage: float | None = None
    #: Opened in this cycle: what is read is nothing yet.
    is_new: bool = True
    #: What was counted when a counter was published last, by event.
    published: dict[str, Total] = field(default_factory=dict)


_NOTHING = Total(0, 0, 0)


class OwnGate:
    """Remembers instances from cycle to cycle. Not safe for threads."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._lives: dict[str, _Life] = {}

    def judge(
        self, uuid: str, count: Count, process: Process, late: float
    ) -> Judged:
        """Judge every counter of one instance.

        ``process`` was read after the counters, ``late`` seconds after at
        most.
        """
        clock = max((t.enabled for t in count.totals.values()), default=0)
        # The reading in which they are opened may be long in coming, as the
        # helper has to be started.
        now = Point.seen(clock, process, min(late, _age(count.opened)))
        life = self._life(uuid, count.opened, now)
        floor = self._policy.coverage_floor * 1e9
        coverage = life.measure.coverage(now, floor)
        life.coverage = life.coverage if coverage is None else coverage
        shares = {
            event: _share(life.published.get(event, _NOTHING), total)
            for event, total in count.totals.items()
        }
        judgements = {
            event: self._judgement(life, share)
            for event, share in shares.items()
        }
        fine = [e for e, j in judgements.items() if j is verdicts.OK]
        life.published.update({event: count.totals[event] for event in fine})
        return Judged(
            judgements={EVENTS[e].key: j for e, j in judgements.items()},
            coverage=life.coverage,
            since=life.since,
            share=min((shares[event] for event in fine), default=1.0),
        )

    def is_wrong(self, uuid: str) -> bool:
        """Whether the counters have to be opened again."""
        life = self._lives.get(uuid)
        return life is not None and self._wrong(life) is not None

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Forget instances that are not counted any more."""
        self._lives = {u: v for u, v in self._lives.items() if u in uuids}

    def _life(self, uuid: str, opened: int, now: Point) -> _Life:
        life = self._lives.get(uuid)
        if life is None or life.opened != opened:
            since = utc_now() - timedelta(seconds=_age(opened))
            life = _Life(opened, since, Measure(now, now))
            self._lives[uuid] = life
        else:
            life.is_new = False
        return life

    def _wrong(self, life: _Life) -> Judgement | None:
        seen = life.coverage
        if seen is None or (self._policy.min_coverage <= seen <= MAX_COVERAGE):
            return None
        return verdicts.miscounted(seen)

    def _judgement(self, life: _Life, share: float) -> Judgement:
        if life.is_new:
            return verdicts.NEW
        if wrong := self._wrong(life):
            return wrong
        if share < self._policy.min_running:
            return verdicts.took_turns(share)
        if life.coverage is None and self._policy.withhold_in_doubt:
            return verdicts.UNMEASURED
        return verdicts.OK


def _age(opened: int) -> float:
    """Seconds since then, which is in ns of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - opened / 1e9


def _share(before: Total, now: Total) -> float:
    """Of the time since then, in which the event was on a counter."""
    enabled = now.enabled - before.enabled
    return (now.running - before.running) / enabled if enabled else 1.0
