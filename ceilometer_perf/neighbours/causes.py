# SPDX-License-Identifier: Apache-2.0
"""Why an instance is slower than usual, and by whose doing.

What has changed is seen by contrast: cycles before, when it was as fast as
usual, and cycles since. A cause must show in the victim itself and in what
is shared, and the culprit must take more of that than before, in step with
the victim's excess. What nobody else explains is the instance's own.
"""

import functools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ceilometer_perf.neighbours.observation import Frame, Observation

#: From here on CPI2 takes a suspect for the antagonist.
CORRELATION = 0.35
#: CPUs that a suspect must use more than before, as CPI2's least use.
LEAST_CPUS = 0.25
#: What moves by less may be noise.
MOVED = 0.1
#: Share of the most that was ever seen, from which on memory is short; and
#: bytes per second that any memory delivers: half of one channel of DDR4.
NEAR_MOST = 0.8
LEAST_MOST = 10e9
#: Cycles that a miss costs, most of the time and at most: 100 ns at 3 GHz,
#: a good part of which is hidden.
MISS = 100.0
WORST_MISS = 300.0
#: Share of the rise of all suspects that the culprit must have, and of what
#: the victim lost in the cache that must have become the culprit's.
MAIN = 0.3
PART = 0.25
#: Of what is lost: a cause that accounts for less is named if no other is.
GOOD_PART = 0.5

Topology = Mapping[int, frozenset[int]]
"""The other threads of each CPU's core."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """A victim before and since.

    ``excess`` is how many times its usual cost each frame has, of those
    before and then of those since. ``most`` is what the memory of each L3
    cache's node was seen to deliver, in bytes per second.
    """

    victim: str
    before: Sequence[Frame]
    since: Sequence[Frame]
    excess: Sequence[float]
    most: Mapping[int, float] = field(default_factory=dict)
    siblings: Topology = field(default_factory=dict)
    #: What other victims of this cycle have found out of the same frames.
    memo: dict[object, Any] = field(default_factory=dict)

    @property
    def frames(self) -> tuple[int, ...]:
        """Which these are: one number each, of those before and since."""
        return (*map(id, self.before), 0, *map(id, self.since))

    @property
    def now(self) -> Observation:
        """The victim in the last frame."""
        return self.since[-1].seen[self.victim]

    def why_not(self, *names: str) -> str | None:
        """Why fields of the victim's are not known of every cycle."""
        for frame in reversed((*self.before, *self.since)):
            why = frame.seen[self.victim].why_not(*names)
            if why is not None:
                return why
        return None

    def moved(self, name: str) -> tuple[float, float] | None:
        """A field of the victim's, before and since; None if not known."""
        return self._medians(lambda seen: _sum(getattr(seen, name), None))

    def own(self, name: str) -> tuple[float, float] | None:
        """The same of what it has in those L3 caches in which it runs."""
        domains = self.now.domains
        return self._medians(lambda seen: _sum(getattr(seen, name), domains))

    def _medians(
        self, value: Callable[[Observation], float | None]
    ) -> tuple[float, float] | None:
        halves = [
            [value(frame.seen[self.victim]) for frame in frames]
            for frames in (self.before, self.since)
        ]
        if any(each is None for half in halves for each in half):
            return None
        before, since = (
            statistics.median(each for each in half if each is not None)
            for half in halves
        )
        return before, since


@dataclass(frozen=True, slots=True)
class Guilt:
    """A suspect that explains the excess.

    ``correlation`` is between 0 and 1; its use of what is short was
    ``before`` and is ``since``, in the unit of the cause.
    """

    culprit: str
    correlation: float
    before: float
    since: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who slows the victim down, through what."""

    cause: str
    guilt: Guilt
    evidence: Mapping[str, float]

    @property
    def is_strong(self) -> bool:
        """Whether it accounts for a good part of what is lost."""
        return self.evidence.get("explains", 1.0) >= GOOD_PART


CPUs = frozenset[int]
"""CPUs, or L3 caches by their ids."""

Pressure = Callable[[Observation, CPUs], float | None]
"""How much a suspect takes there; None if that is not known."""


@dataclass(frozen=True, slots=True)
class _Change:
    """How much a suspect takes."""

    suspect: str
    before: float
    since: float

    @property
    def rise(self) -> float:
        """How much more it takes than before, 0 if it takes less."""
        return max(0.0, self.since - self.before)


@dataclass(frozen=True, slots=True)
class Cause:
    """One way to be slowed down.

    ``symptoms`` are what the victim shows, with numbers for people; None if
    it does not. ``where`` is what it shares with suspects, ``pressure`` is how
    much of that they take, and ``least`` how much more than before it must be.
    """

    name: str
    needs: tuple[str, ...]
    symptoms: Callable[[Contrast], Mapping[str, float] | None]
    where: Callable[[Contrast], CPUs]
    pressure: Pressure
    least: Callable[[Contrast], float]
    #: What must have risen as well.
    effort: Pressure | None = None

    def explain(
        self, contrast: Contrast
    ) -> tuple[Explanation | None, str | None]:
        """The explanation, or why there can't be one, or neither."""
        why = contrast.why_not(*self.needs)
        if why is not None:
            return None, why
        evidence = self.symptoms(contrast)
        if evidence is None:
            return None, None
        guilt, unknown = self._guilt(contrast)
        if guilt is not None:
            return Explanation(self.name, guilt, evidence), None
        return None, unknown

    def _guilt(self, contrast: Contrast) -> tuple[Guilt | None, str | None]:
        """Whoever rose most, if it moves with the excess."""
        changes = {
            uuid: change
            for uuid, change in self._changes(contrast).items()
            if uuid != contrast.victim
        }
        known = [each for each in changes.values() if each is not None]
        worst = max(
            known, key=lambda each: (each.rise, each.suspect), default=None
        )
        most = None if worst is None else _rise(worst.suspect, contrast)
        unknown = [
            uuid
            for uuid, change in changes.items()
            if change is None and _may_matter(uuid, most, contrast)
        ]
        if unknown:
            # It may be the culprit, whoever else looks like one.
            names = "neighbour" if len(unknown) == 1 else "neighbours"
            return None, f"{len(unknown)} {names} without {self.needs[-1]}"
        if worst is None:
            return None, None
        least = max(
            self.least(contrast), MAIN * sum(each.rise for each in known)
        )
        where = self.where(contrast)
        series = _series(worst.suspect, self.pressure, where, contrast)
        correlation = _correlation(series or (), contrast.excess)
        if correlation < CORRELATION or not worst.rise >= least > 0:
            return None, None
        guilt = Guilt(worst.suspect, correlation, worst.before, worst.since)
        return guilt, None

    def _changes(self, contrast: Contrast) -> Mapping[str, _Change | None]:
        """Of all instances. Victims of one cycle often have the same."""
        where = self.where(contrast)
        key = (self.name, where, contrast.frames)
        if key not in contrast.memo:
            suspects = {
                uuid for frame in contrast.since for uuid in frame.seen
            }
            contrast.memo[key] = {
                uuid: self._change(uuid, where, contrast) for uuid in suspects
            }
        found: Mapping[str, _Change | None] = contrast.memo[key]
        return found

    def _change(
        self, uuid: str, where: CPUs, contrast: Contrast
    ) -> _Change | None:
        """How a suspect has changed; None if that is not known."""
        series = efforts = _series(uuid, self.pressure, where, contrast)
        if self.effort is not None:
            efforts = _series(uuid, self.effort, where, contrast)
        if series is None or efforts is None:
            return None
        number = len(contrast.before)
        before, since = _halves(series, number)
        if not _rises(_halves(efforts, number)):
            since = min(before, since)  # it got what others left
        return _Change(uuid, before, since)


def _series(
    uuid: str, pressure: Pressure, where: CPUs, contrast: Contrast
) -> list[float] | None:
    """A suspect's pressure in each frame; None if it is not known."""
    found: list[float] = []
    process: object = None
    for number, frame in enumerate((*contrast.before, *contrast.since)):
        seen = frame.seen.get(uuid)
        # Who was not there took nothing.
        taken = 0.0 if seen is None else pressure(seen, where)
        before, process = process, None if seen is None else seen.process
        if taken is None and number and process != before:
            # Its first cycle: rates need two, and it was there for a part.
            taken = 0.0
        if taken is None:
            return None
        found.append(taken)
    return found


def _halves(series: Sequence[float], number: int) -> tuple[float, float]:
    before, since = series[:number], series[number:]
    return statistics.median(before), statistics.median(since)


def _may_matter(uuid: str, most: float | None, contrast: Contrast) -> bool:
    """Whether a suspect of which too little is known could be the one.

    Not if it hardly runs or runs elsewhere; nor if its misses, which are
    counted all the same, rose by far less than ``most``, the worst one's.
    """
    domains = contrast.now.domains
    seen = [f.seen[uuid] for f in contrast.since if uuid in f.seen]
    if not any(
        (not each.domains or each.domains & domains)
        and (each.cpus is None or each.cpus >= LEAST_CPUS)
        for each in seen
    ):
        return False
    rise = _rise(uuid, contrast)
    return rise is None or most is None or rise > GOOD_PART * most


def _rise(uuid: str, contrast: Contrast) -> float | None:
    """Of an instance's misses per time."""
    series = _series(uuid, _missed, frozenset(), contrast)
    if series is None:
        return None
    before, since = _halves(series, len(contrast.before))
    return since - before


def _missed(seen: Observation, _where: CPUs) -> float | None:
    """In proportion to the misses per second."""
    if seen.mpki is None or seen.cpi is None or seen.cpus is None:
        return None
    return seen.mpki / seen.cpi * seen.cpus


def _correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Pearson's; 0 where one of them does not change, or it is negative."""
    try:
        return max(0.0, statistics.correlation(left, right))
    except statistics.StatisticsError:
        return 0.0


def _sum(
    value: Mapping[int, float] | float | None, domains: frozenset[int] | None
) -> float | None:
    if not isinstance(value, Mapping):
        return value
    return sum(
        n for bank, n in value.items() if domains is None or bank in domains
    )


def _part(used: float | None, where: CPUs, wanted: CPUs) -> float | None:
    """Of the CPUs that are used somewhere, those of the wanted ones."""
    if used is None:
        return None
    return used * _shared(where, wanted) / len(where) if where else 0.0


@functools.lru_cache(4096)  # most may run on the same ones, for long
def _shared(where: CPUs, wanted: CPUs) -> int:
    return len(where & wanted)


def _rises(pair: tuple[float, float] | None) -> bool:
    return pair is not None and pair[1] > pair[0] * (1 + MOVED)


def _falls(pair: tuple[float, float] | None) -> bool:
    return pair is not None and pair[1] < pair[0] * (1 - MOVED)


# llc


def _caches(contrast: Contrast) -> CPUs:
    return contrast.now.domains


def _held(seen: Observation, where: CPUs) -> float | None:
    """Bytes of these caches."""
    return _sum(seen.occupancy, where)


def _fetched(seen: Observation, where: CPUs) -> float | None:
    """Bytes per second, or a number that is proportional to the misses."""
    if seen.bandwidth is not None:
        return _sum(seen.bandwidth, where)
    return _missed(seen, where)


def _evicted(contrast: Contrast) -> Mapping[str, float] | None:
    """It misses more because it has less; with more it is its own doing."""
    misses, held = contrast.moved("mpki"), contrast.own("occupancy")
    if misses is None or held is None:
        return None
    if not (_rises(misses) and _falls(held)):
        return None
    explains = _explained(misses, contrast)
    if explains * WORST_MISS / MISS < GOOD_PART:
        return None
    return {
        "explains": min(1.0, explains),
        "mpki_before": misses[0],
        "mpki": misses[1],
        "occupancy_before": held[0],
        "occupancy": held[1],
    }


def _explained(misses: tuple[float, float], contrast: Contrast) -> float:
    """The share of what is lost for which these misses account."""
    cpi = contrast.moved("cpi")
    if cpi is None or cpi[1] <= cpi[0]:
        return 0.0
    return (misses[1] - misses[0]) / 1000 * MISS / (cpi[1] - cpi[0])


def _part_of_loss(contrast: Contrast) -> float:
    held = contrast.own("occupancy")
    return 0.0 if held is None else PART * (held[0] - held[1])


# bandwidth


def total(frame: Frame, domains: Iterable[int]) -> float:
    """Bytes per second of all instances together with these memories."""
    wanted = frozenset(domains)
    return sum(
        _sum(each.bandwidth, wanted) or 0.0 for each in frame.seen.values()
    )


def _transferred(seen: Observation, where: CPUs) -> float | None:
    """Bytes per second with these memories."""
    return _sum(seen.bandwidth, where)


def _total(frame: Frame, contrast: Contrast) -> float:
    domains = contrast.now.domains
    key = (id(frame), domains)
    if key not in contrast.memo:
        contrast.memo[key] = total(frame, domains)
    found: float = contrast.memo[key]
    return found


def _throttled(contrast: Contrast) -> Mapping[str, float] | None:
    """Memory is near its most, and not because the victim takes more."""
    misses, own = contrast.moved("mpki"), contrast.own("bandwidth")
    most = _most(contrast)
    before, since = (
        statistics.median(_total(frame, contrast) for frame in frames)
        for frames in (contrast.before, contrast.since)
    )
    if own is None or since < NEAR_MOST * most:
        return None
    if misses is None or _rises(misses):
        return None
    if not _rises((before, since)) or own[1] - own[0] > (since - before) / 2:
        return None
    return {"bandwidth_before": before, "bandwidth": since, "most": most}


def _most(contrast: Contrast) -> float:
    return sum(
        max(LEAST_MOST, contrast.most.get(domain, 0.0))
        for domain in contrast.now.domains
    )


def _tenth_of_most(contrast: Contrast) -> float:
    return MOVED * _most(contrast)


# smt


def _other_threads(contrast: Contrast) -> CPUs:
    """Of the victim's cores."""
    return frozenset(
        other
        for cpu in contrast.now.ran_on
        for other in contrast.siblings.get(cpu, frozenset())
    )


def _beside(seen: Observation, where: CPUs) -> float | None:
    """CPUs that it uses there."""
    return _part(seen.cpus, seen.ran_on, where)


def _no_misses(contrast: Contrast) -> Mapping[str, float] | None:
    misses = contrast.moved("mpki")
    if misses is not None and _explained(misses, contrast) >= GOOD_PART:
        return None
    return {} if contrast.siblings else None


def _enough_beside(contrast: Contrast) -> float:
    """For a good part: a busy thread doubles its sibling's cycles."""
    excess = statistics.median(contrast.excess[len(contrast.before) :])
    part = GOOD_PART * (excess - 1) * len(contrast.now.ran_on)
    return max(LEAST_CPUS, part)


# cpu


def _allowed(contrast: Contrast) -> CPUs:
    """Where the victim may run."""
    return contrast.now.allowed


def _on_its_cpus(seen: Observation, where: CPUs) -> float | None:
    """CPUs that it uses there, if it uses all alike on which it may run."""
    return _part(seen.cpus, seen.allowed, where)


def _waits(contrast: Contrast) -> Mapping[str, float] | None:
    waited = contrast.moved("waited")
    if waited is None or waited[1] <= waited[0]:
        return None
    return {"waited_before": waited[0], "waited": waited[1]}


def _part_of_waiting(contrast: Contrast) -> float:
    """And more than the victim itself uses more than before."""
    waited, used = contrast.moved("waited"), contrast.moved("cpus")
    if waited is None or used is None:
        return 0.0
    return max(PART * (waited[1] - waited[0]), used[1] - used[0])


LLC = Cause(
    "llc", ("mpki", "occupancy"), _evicted, _caches, _held,
    _part_of_loss, _fetched,
)  # fmt: skip
BANDWIDTH = Cause(
    "bandwidth", ("mpki", "bandwidth"), _throttled, _caches,
    _transferred, _tenth_of_most,
)  # fmt: skip
SMT = Cause(
    "smt", ("cpus",), _no_misses, _other_threads, _beside, _enough_beside
)
CPU = Cause(
    "cpu", ("waited", "cpus"), _waits, _allowed, _on_its_cpus,
    _part_of_waiting,
)  # fmt: skip
