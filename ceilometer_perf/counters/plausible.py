# SPDX-License-Identifier: Apache-2.0
"""Whether a PMU counts at all what the instance used.

What :mod:`ceilometer_perf.bounds` says that no CPU counts is not published.
"""

import dataclasses
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ceilometer_perf import bounds
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.meters import HARDWARE_KEYS
from ceilometer_perf.reading import Counters

#: CPU time in which every hardware event happens at least once, in ns.
STILL = 60_000_000_000


@dataclass(frozen=True, slots=True)
class _Look:
    """What the counters were when the process had used so much, in ns."""

    cpu: int
    counters: Counters

    def growth(self, counters: Counters) -> Mapping[str, int]:
        """Of those that were there."""
        return {
            key: value - self.counters[key]
            for key, value in counters.items()
            if key in self.counters
        }


@dataclass(slots=True)
class _Life:
    """The counters of one ``since``: looks at them, some time ago."""

    since: datetime
    last: _Look
    #: Where to see whether any stands still.
    long_ago: _Look
    #: A count that was missed is missing from all that follow.
    lying: dict[str, Judgement] = field(default_factory=dict)


class Plausibility:
    """Remembers instances from cycle to cycle. Not safe for threads."""

    def __init__(self, floor: float) -> None:
        """``floor``: the least CPU time to look at growth over, in ns."""
        self._floor = floor
        self._lives: dict[str, _Life] = {}

    def judged(self, uuid: str, answer: Answer) -> Answer:
        """The answer, without the counters that can't be right."""
        if answer.process is None:
            return answer
        life = self._life(uuid, answer, answer.process.cpu_ns)
        lying = life.lying.keys() & answer.trusted.keys()
        if not lying:
            return answer
        judged = dataclasses.replace(
            answer.judged,
            judgements={
                **answer.judged.judgements,
                **{key: life.lying[key] for key in lying},
            },
        )
        return dataclasses.replace(
            answer, judged=judged, trusted=judged.trusted(answer.counters)
        )

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Forget instances that are gone from this host."""
        self._lives = {u: v for u, v in self._lives.items() if u in uuids}

    def _life(self, uuid: str, answer: Answer, cpu: int) -> _Life:
        now = _Look(cpu, _believed(answer))
        life = self._lives.get(uuid)
        if life is None or life.since != answer.judged.since:
            first = now if _are_new(answer) else _start(now)
            life = _Life(answer.judged.since, first, first)
            self._lives[uuid] = life
        if cpu - life.last.cpu >= self._floor:
            life.lying.update(_beyond(life.last, now))
            life.last = now
        if cpu - life.long_ago.cpu >= STILL:
            life.lying.update(_still(life.long_ago, now))
            life.long_ago = now
        return life


def _believed(answer: Answer) -> Counters:
    """Those to publish, now or with the next reading."""
    judgements = answer.judged.judgements
    new = {k for k, j in judgements.items() if j.verdict is Verdict.NEW}
    return {
        key: value
        for key, value in answer.counters.items()
        if key in answer.trusted or key in new
    }


def _are_new(answer: Answer) -> bool:
    """Whether they did not begin with the process, but just now."""
    return any(
        judgement.verdict is Verdict.NEW
        for judgement in answer.judged.judgements.values()
    )


def _start(now: _Look) -> _Look:
    """Where those began that have counted ever since the process started."""
    return _Look(0, dict.fromkeys(now.counters, 0))


def _beyond(before: _Look, now: _Look) -> Iterator[tuple[str, Judgement]]:
    seconds = (now.cpu - before.cpu) / 1e9
    for key, why in bounds.beyond(before.growth(now.counters), seconds):
        yield key, verdicts.implausible(why)


def _still(before: _Look, now: _Look) -> Iterator[tuple[str, Judgement]]:
    """Of hardware events alone: there may be no fault and no migration."""
    seconds = (now.cpu - before.cpu) / 1e9
    for key, grown in before.growth(now.counters).items():
        if key in HARDWARE_KEYS and not grown:
            name = key.removeprefix("perf.")
            yield (
                key,
                verdicts.implausible(
                    f"no {name} in {seconds:.0f} s of CPU time"
                ),
            )
