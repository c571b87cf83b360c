# SPDX-License-Identifier: Apache-2.0
"""How well somebody names victims and culprits."""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.corun.peers import Said
from tests.corun.story import DAY
from tests.corun.truth import HARM, Episode

GAP = 5  # cycles after which the same pair is another alarm
LATE = 12  # cycles after an episode in which an alarm is still of it
MONTH = 30 * DAY


@dataclass(slots=True)
class Alarm:
    """Somebody says that one slows down another."""

    victim: str
    culprit: str
    first: int
    last: int
    causes: set[str] = field(default_factory=set)


class Alarms:
    """Collects what somebody says, cycle by cycle."""

    def __init__(self) -> None:
        self.all: list[Alarm] = []
        self._open: dict[tuple[str, str], Alarm] = {}

    def add(self, cycle: int, said: Said) -> None:
        victim, culprit, cause = said
        alarm = self._open.get((victim, culprit))
        if alarm is None or cycle - alarm.last > GAP:
            alarm = Alarm(victim, culprit, cycle, cycle)
            self._open[victim, culprit] = alarm
            self.all.append(alarm)
        alarm.last = cycle
        if cause:
            alarm.causes.add(cause)


@dataclass(slots=True)
class Score:
    """Counts, which add up over stories."""

    right: int = 0
    false: int = 0
    grey: int = 0
    seen: int = 0
    missed: int = 0
    #: Harm of which the evidence was broken for most of the time.
    undecidable: int = 0
    causes_right: int = 0
    lived: int = 0
    delays: list[int] = field(default_factory=list)
    by_cause: dict[str, list[int]] = field(default_factory=dict)
    wrong: list[Alarm] = field(default_factory=list)
    unseen: list[Episode] = field(default_factory=list)

    def __iadd__(self, other: "Score") -> "Score":
        for each in dataclasses.fields(self):
            mine = getattr(self, each.name)
            if each.name == "by_cause":
                for cause, (seen, whole) in other.by_cause.items():
                    old = mine.setdefault(cause, [0, 0])
                    old[0] += seen
                    old[1] += whole
            else:
                setattr(self, each.name, mine + getattr(other, each.name))
        return self

    def figures(self) -> dict[str, float | int | None]:
        """For people and programs."""
        alarms, harm = self.right + self.false, self.seen + self.missed
        return {
            "precision": self.right / alarms if alarms else None,
            "recall": self.seen / harm if harm else None,
            "causes_right": (
                self.causes_right / self.seen if self.seen else None
            ),
            "cycles_to_verdict": (
                statistics.median(self.delays) if self.delays else None
            ),
            "false_per_instance_and_30_days": (
                self.false / (self.lived / MONTH) if self.lived else None
            ),
            "alarms_right": self.right,
            "alarms_false": self.false,
            "alarms_of_minor_harm": self.grey,
            "harm_seen": self.seen,
            "harm_missed": self.missed,
            "harm_undecidable": self.undecidable,
            "instance_days": self.lived / DAY,
            **{
                f"recall_{cause}": seen / whole
                for cause, (seen, whole) in sorted(self.by_cause.items())
            },
        }


def score(
    alarms: Sequence[Alarm], episodes: Sequence[Episode], lived: int
) -> Score:
    """One story's."""
    found = Score(lived=lived)
    for alarm in alarms:
        hits = [e for e in episodes if _is_of(alarm, e)]
        if any(e.worst >= HARM and _is_right(alarm, e) for e in hits):
            found.right += 1
        elif any(alarm.culprit in e.accessories for e in hits):
            found.grey += 1
        else:
            found.false += 1
            found.wrong.append(alarm)
    for episode in episodes:
        if episode.harmful:
            of_it = [
                alarm
                for alarm in alarms
                if _is_of(alarm, episode) and _is_right(alarm, episode)
            ]
            _see(found, episode, of_it)
    return found


def _see(found: Score, episode: Episode, right: Sequence[Alarm]) -> None:
    if not right and episode.undecidable:
        found.undecidable += 1
        return
    for cause in episode.causes:
        counts = found.by_cause.setdefault(cause, [0, 0])
        counts[0] += bool(right)
        counts[1] += 1
    if not right:
        found.missed += 1
        found.unseen.append(episode)
        return
    found.seen += 1
    first = min(alarm.first for alarm in right)
    found.delays.append(max(0, first - episode.first) + 1)
    found.causes_right += any(a.causes & episode.causes for a in right)


def _is_of(alarm: Alarm, episode: Episode) -> bool:
    return (
        alarm.victim == episode.victim
        and alarm.first <= episode.last + LATE
        and alarm.last >= episode.first
    )


def _is_right(alarm: Alarm, episode: Episode) -> bool:
    return alarm.culprit in episode.culprits
