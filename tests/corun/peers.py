# SPDX-License-Identifier: Apache-2.0
"""Who names victims and culprits: this project's judgement, and two peers.

Each takes a moment and says pairs of victim and culprit, with a cause if it
knows one. The peers get what favours them: every cycle of a story, evaluated
without delay, and each victim paired with each culprit that they name.
"""

import dataclasses
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import ClassVar, Protocol

from ceilometer_perf.neighbours.judge import Judge
from ceilometer_perf.neighbours.observation import Observation
from tests.corun.machine import HERTZ, Domain
from tests.corun.run import Moment

Said = tuple[str, str, str | None]
"""A victim, a culprit, a cause."""

#: Where a host has nothing to count them.
WITHOUT = {"occupancy": "no resctrl", "bandwidth": "no resctrl"}


class Peer(Protocol):
    """What is compared."""

    def look(self, moment: Moment) -> Iterator[Said]:
        """One more cycle."""


class Ours:
    """The judgement; what is usual outlives a restart of the agent."""

    def __init__(self, domains: list[Domain], *, rdt: bool = True) -> None:
        self._siblings = {
            cpu: frozenset({cpu ^ 1}) for d in domains for cpu in d.cpus
        }
        self._rdt = rdt
        self._judge = Judge(self._siblings)

    def look(self, moment: Moment) -> Iterator[Said]:
        if moment.restarted:
            saved = json.loads(json.dumps(self._judge.saved()))
            self._judge = Judge(self._siblings)
            self._judge.restore(saved)
        frame = moment.seen
        if frame is None:
            return
        if not self._rdt:
            seen = {
                name: dataclasses.replace(
                    each,
                    occupancy=None,
                    bandwidth=None,
                    missing={**each.missing, **WITHOUT},
                )
                for name, each in frame.seen.items()
            }
            frame = dataclasses.replace(frame, seen=seen)
        for each in self._judge.look(frame).interferences:
            yield each.victim, each.culprit, each.cause


class Watcher:
    """The strategy noisy_neighbor of OpenStack Watcher, by its defaults.

    Occupancy of five minutes against the five before: a victim has lost 35 %,
    a culprit has gained as much, on the same host.
    """

    MINUTES = 5
    SHARE = 0.35

    def __init__(self) -> None:
        self._held: dict[str, deque[float]] = {}

    def look(self, moment: Moment) -> Iterator[Said]:
        if moment.seen is None:
            return
        for name, each in moment.seen.seen.items():
            if each.occupancy is not None:
                self._held.setdefault(
                    name, deque(maxlen=2 * self.MINUTES)
                ).append(sum(each.occupancy.values()))
        known = {
            name: self._halves(self._held[name])
            for name in moment.seen.seen
            if len(self._held.get(name, ())) == 2 * self.MINUTES
        }
        gained = {
            name: now / before
            for name, (before, now) in known.items()
            if now > (1 + self.SHARE) * before
        }
        if not gained:
            return
        worst = max(gained, key=lambda name: gained[name])
        for name, (before, now) in known.items():
            if now < (1 - self.SHARE) * before:
                yield name, worst, "llc"

    def _halves(self, held: deque[float]) -> tuple[float, float]:
        values = list(held)
        return (
            sum(values[: self.MINUTES]) / self.MINUTES,
            sum(values[self.MINUTES :]) / self.MINUTES,
        )


class _Series:
    """One instance's growth per cycle, for rates over 10 cycles."""

    def __init__(self) -> None:
        self.last: deque[tuple[float, float, float, float]] = deque(maxlen=10)
        self.past: deque[tuple[float, float, float]] = deque(maxlen=75)
        self.alerts = {"llc": 0, "bandwidth": 0}

    def add(self, seen: Observation) -> None:
        if seen.cpi is None or seen.cpus is None or seen.mpki is None:
            return
        cycles = seen.cpus * HERTZ
        instructions = cycles / seen.cpi
        moved = sum((seen.bandwidth or {}).values())
        self.last.append(
            (cycles, instructions, seen.mpki * instructions / 1000, moved)
        )
        self.past.append(self.now)

    @property
    def now(self) -> tuple[float, float, float]:
        """IPC and misses of ten cycles, and the last bandwidth."""
        cycles, instructions, misses, _ = map(
            sum, zip(*self.last, strict=True)
        )
        return instructions / cycles, misses / len(self.last), self.last[-1][3]

    def change(self, index: int) -> float | None:
        """Now, over the hour that ended 15 cycles ago."""
        if len(self.past) < 75:
            return None
        hour = [each[index] for each in list(self.past)[:60]]
        usual = sum(hour) / len(hour)
        return self.now[index] / usual if usual > 0 else None


class Rules:
    """Alerts of Prometheus that compare an instance with its own last hour.

    This project had them before there was a judgement: of a whole host.

    A culprit's misses or bandwidth have doubled and are most of the host's,
    and others there lost a fifth of their IPC, all of that for ten minutes.
    """

    INDEX: ClassVar = {"llc": 1, "bandwidth": 2}

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def look(self, moment: Moment) -> Iterator[Said]:
        if moment.seen is None:
            return
        for name, each in moment.seen.seen.items():
            self._series.setdefault(name, _Series()).add(each)
        here = {
            name: self._series[name]
            for name in moment.seen.seen
            if self._series[name].last
        }
        slowed = {
            name
            for name, each in here.items()
            if (change := each.change(0)) is not None and change < 0.8
        }
        for cause, index in self.INDEX.items():
            whole = sum(each.now[index] for each in here.values())
            for name, series in here.items():
                yield from self._alert(
                    name, series, cause, whole, slowed - {name}
                )

    def _alert(
        self, name: str, each: _Series, cause: str, whole: float,
        others: set[str],
    ) -> Iterator[Said]:  # fmt: skip
        index = self.INDEX[cause]
        change = each.change(index)
        # Who is new has no past, and all of it counts as a change.
        changed = change is None or change > 2
        fires = changed and each.now[index] > whole / 2 and bool(others)
        each.alerts[cause] = each.alerts[cause] + 1 if fires else 0
        if each.alerts[cause] >= 10:
            for victim in others:
                yield victim, name, cause


def all_of_them(domains: list[Domain]) -> Mapping[str, Peer]:
    """By the name that tables show."""
    return {
        "perf.neighbour.*": Ours(domains),
        "the same without RDT": Ours(domains, rdt=False),
        "Watcher, 35 %": Watcher(),
        "rules of before": Rules(),
    }
