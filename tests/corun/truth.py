# SPDX-License-Identifier: Apache-2.0
"""Who is really slowed down by whom: from the model, not from the judgement.

An instance is a victim while it is slower than alone by more than it usually
is, by a margin. Who does it, and through what, is found by playing the same
moment again with the other as it was before.
"""

import dataclasses
import statistics
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.corun.machine import Domain, Running, State, quieter, solve
from tests.corun.run import Moment

HARM = 0.15  # share of its speed that a victim loses, or more
SHORTEST = 10  # cycles of it
GREY = 0.03  # from here on it is no mistake to say so
USUAL = 120  # cycles whose median is usual
LEAST = 45
IDLE = 0.25  # CPUs; who wants less need not be seen
BEGINNING = 8  # cycles around the first one
FAIR = 0.5  # of the worst one's harm, from which on another is guilty, too
PART = 1 / 3  # of the harm that a cause has to have to be right


@dataclass(slots=True)
class Episode:
    """An instance is slower, from one cycle to another."""

    victim: str
    first: int
    last: int
    worst: float = 0.0  # share of its speed that others take
    harmed: int = 0  # cycles in which that is much
    broken: int = 0
    broken_at_first: bool = False
    culprits: set[str] = field(default_factory=set)
    #: Who takes less, but something.
    accessories: set[str] = field(default_factory=set)
    causes: set[str] = field(default_factory=set)

    @property
    def harmful(self) -> bool:
        """Whether it must be seen, or only may."""
        return self.harmed >= SHORTEST

    @property
    def undecidable(self) -> bool:
        """Whether the evidence was broken as it began, or most of the time."""
        return self.broken_at_first or self.broken > self.cycles / 2

    @property
    def cycles(self) -> int:
        """How long it lasts."""
        return self.last - self.first + 1


@dataclass(slots=True)
class _Past:
    life: object = None
    slow: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))
    episode: Episode | None = None
    before: Mapping[str, Running] = field(default_factory=dict)
    played: object = None
    taken: float = 0.0
    broken_at: int = -BEGINNING


class Truth:
    """Collects the episodes of a story."""

    def __init__(self, domains: list[Domain]) -> None:
        self._domains = domains
        self._pasts: dict[str, _Past] = {}
        self.episodes: list[Episode] = []
        #: Cycles of instances, for rates.
        self.lived = 0
        self._last: Mapping[str, Running] = {}

    def add(self, moment: Moment) -> None:
        """One more cycle."""
        self.lived += len(moment.slow)
        for name, slow in moment.slow.items():
            past = self._pasts.setdefault(name, _Past())
            if past.life != moment.lives[name]:
                past = self._pasts[name] = _Past(moment.lives[name])
            self._follow(name, past, slow, moment)
        self._pasts = {
            n: p for n, p in self._pasts.items() if n in moment.slow
        }
        self._last = moment.running

    def _follow(
        self, name: str, past: _Past, slow: float, moment: Moment
    ) -> None:
        if self._is_broken({name}, moment):
            past.broken_at = moment.cycle
            if past.episode and moment.cycle - past.episode.first < BEGINNING:
                past.episode.broken_at_first = True
        known = len(past.slow) >= LEAST
        usual = statistics.median(past.slow) if known else slow
        lost = 1 - usual / slow
        if lost < GREY:
            past.slow.append(slow)
            past.episode = None
            return
        if past.episode is None:
            past.episode = Episode(name, moment.cycle, moment.cycle)
            past.episode.broken_at_first = (
                moment.cycle - past.broken_at < BEGINNING
            )
            past.before = self._last
            past.played = None
            self.episodes.append(past.episode)
        episode = past.episode
        episode.last = moment.cycle
        # A moment is played again only if it differs from the one before.
        here = {
            n: r
            for n, r in moment.running.items()
            if moment.domain_of[n] == moment.domain_of[name]
        }
        if past.played != here:
            past.played = here
            past.taken = self._blame(episode, past.before, here, moment, lost)
        episode.worst = max(episode.worst, past.taken)
        state = moment.states[name]
        is_idle = state.used + state.waited < IDLE
        episode.harmed += past.taken >= HARM and not is_idle
        if self._is_broken({name, *episode.culprits}, moment):
            episode.broken += 1
            if moment.cycle - episode.first < BEGINNING:
                episode.broken_at_first = True

    def _is_broken(self, names: set[str], moment: Moment) -> bool:
        return (
            moment.seen is None
            or moment.restarted
            or bool(names & moment.broken)
        )

    def _blame(
        self,
        episode: Episode,
        before: Mapping[str, Running],
        here: Mapping[str, Running],
        moment: Moment,
        lost: float,
    ) -> float:
        """The share of its speed that others take, and who."""
        name = episode.victim
        domain = self._domains[moment.domain_of[name]]
        now = moment.states[name]
        taken: dict[str, tuple[float, State]] = {}
        for other in here.keys() - {name}:
            without = dict(here)
            if other in before:
                without[other] = quieter(here[other], before[other])
            else:
                del without[other]
            state = solve(domain, without)[name]
            taken[other] = (1 - state.cost / now.cost, state)
        worst = max((share for share, _ in taken.values()), default=0.0)
        if worst < max(GREY, PART * lost):
            return 0.0  # its own doing
        for other, (share, state) in taken.items():
            if share >= GREY:
                episode.accessories.add(other)
            if share >= FAIR * worst:
                episode.culprits.add(other)
                episode.causes |= set(_causes(now, state))
        return worst


def _causes(now: State, without: State) -> Iterator[str]:
    """Through what: those that have a good part of the harm."""
    harm = {
        "cpu": now.cpi * (now.stretch - without.stretch),
        "smt": now.core - without.core,
        "llc": (now.mpki - without.mpki) / 1000 * without.miss,
        "bandwidth": now.mpki / 1000 * (now.miss - without.miss),
    }
    whole = sum(max(0.0, each) for each in harm.values())
    return (cause for cause, part in harm.items() if part >= PART * whole > 0)


def joined(episodes: list[Episode], gap: int) -> list[Episode]:
    """Those of one victim that are less than a gap apart, as one."""
    found: list[Episode] = []
    latest: dict[str, Episode] = {}
    for each in sorted(episodes, key=lambda e: e.first):
        last = latest.get(each.victim)
        if last is not None and each.first - last.last <= gap:
            last.last = max(last.last, each.last)
            last.worst = max(last.worst, each.worst)
            last.harmed += each.harmed
            last.broken += each.broken
            last.culprits |= each.culprits
            last.accessories |= each.accessories
            last.causes |= each.causes
            continue
        latest[each.victim] = copy = dataclasses.replace(
            each,
            culprits=set(each.culprits),
            accessories=set(each.accessories),
            causes=set(each.causes),
        )
        found.append(copy)
    return found
