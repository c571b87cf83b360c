# SPDX-License-Identifier: Apache-2.0
"""Who is slower than usual, and who slows whom down, cycle by cycle.

Each instance has two costs: cycles per instruction, and how long it takes to
get a CPU's time. It is a victim when a cost stays beyond the fence of its own
past in several cycles, and something outside explains that (``causes``).
Nothing is said from one cycle, and nothing across a gap in the evidence.
"""

import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ceilometer_perf.neighbours.causes import (
    BANDWIDTH,
    CPU,
    LLC,
    SMT,
    Cause,
    Contrast,
    Explanation,
    Topology,
    total,
)
from ceilometer_perf.neighbours.history import KEPT, NEEDED, STEP, History, Key
from ceilometer_perf.neighbours.observation import Frame, Observation

#: Cycles beyond the fence, as CPI2's violations, before something is said;
#: and cycles in a row within it again, after which that is over. A single one
#: between others may be chance.
CYCLES = 3
CALM = 2
#: Cycles in which an explanation is looked for. After that the excess is the
#: instance's own, and becomes usual; later, if something that is missing
#: could have been the explanation.
PATIENCE = 10
LONG_PATIENCE = 600
#: Usual cycles that are compared with: at most, and at least.
BEFORE = 10
LEAST_BEFORE = 5
#: CPUs below which cycles per instruction say nothing, as in CPI2.
LEAST_CPUS = 0.25
#: L3 caches on which an instance may run, up to which each set of them has a
#: baseline of its own. Of sixteen there are more sets than cycles in a month.
FEW = 4
#: Seconds after which the cycle before is too long ago to go on from, and a
#: usual one too long to compare with.
LONGEST = 900.0
OLDEST = 3600.0

#: Of what was saved, if it has not the form that it should have.
OTHER = "must be as this version of the agent writes it"

UNKNOWN = "it is slower, and nothing that its neighbours do explains that"
_IDLE = f"it uses less than {LEAST_CPUS:g} CPUs"


@dataclass(frozen=True, slots=True)
class Interference:
    """One instance slows another down.

    ``loss`` is the share of its usual speed that the victim lost, and
    ``cycles`` how long it has been slower. ``evidence`` has the numbers.
    """

    victim: str
    culprit: str
    cause: str
    loss: float
    correlation: float
    cycles: int
    evidence: Mapping[str, float]

    def numbers(self) -> Mapping[str, float]:
        """All of them, for people and for programs."""
        return {
            "loss": round(self.loss, 4),
            "correlation": round(self.correlation, 4),
            "cycles": self.cycles,
            **{name: round(n, 4) for name, n in self.evidence.items()},
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What one cycle adds up to.

    ``judged`` are the instances of which it is known whether they are
    victims. ``untold`` says why of others it is not, or not of every cause:
    by UUID, then by causes.
    """

    interferences: Sequence[Interference] = ()
    judged: frozenset[str] = frozenset()
    untold: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signal:
    """A cost, which rises when an instance is slowed down by its causes."""

    name: str
    cost: Callable[[Observation], float | str]
    causes: tuple[Cause, ...]

    @property
    def label(self) -> str:
        """The causes, as people read them."""
        return "/".join(cause.name for cause in self.causes)


def _cpi(seen: Observation) -> float | str:
    why = seen.why_not("cpi", "cpus")
    if why is not None or seen.cpi is None or seen.cpus is None:
        return why or ""
    return _IDLE if seen.cpus < LEAST_CPUS else seen.cpi


def _stretch(seen: Observation) -> float | str:
    why = seen.why_not("waited", "cpus")
    if why is not None or seen.waited is None or seen.cpus is None:
        return why or ""
    wanted = seen.waited + seen.cpus
    # Who is starved runs next to never, and wants to all the same.
    return _IDLE if wanted < LEAST_CPUS else wanted / max(seen.cpus, 0.01)


SIGNALS = (
    Signal("cpi", _cpi, (LLC, BANDWIDTH, SMT)),
    Signal("stretch", _stretch, (CPU,)),
)

CAUSES = frozenset(cause.name for each in SIGNALS for cause in each.causes)
#: What the culprit takes, in the evidence of each.
TAKEN = frozenset(("culprit_before", "culprit"))


@dataclass(slots=True)
class _Track:
    """One cost of one instance, from cycle to cycle."""

    history: History = field(default_factory=History)
    #: The last usual ones, and those since it is beyond the fence.
    usual: deque[tuple[Frame, float]] = field(
        default_factory=lambda: deque(maxlen=BEFORE)
    )
    before: list[tuple[Frame, float]] = field(default_factory=list)
    since: deque[tuple[Frame, float]] = field(
        default_factory=lambda: deque(maxlen=BEFORE)
    )
    held: deque[tuple[Key, float]] = field(
        default_factory=lambda: deque(maxlen=KEPT)
    )
    cycles: int = 0
    calm: int = 0
    unexplained: int = 0
    is_own: bool = False
    in_doubt: bool = False
    found: Explanation | None = None

    def interrupt(self) -> None:
        """Forget what goes on: from here on it begins again."""
        self.before = []
        self.since.clear()
        self.held.clear()
        self.cycles = self.calm = self.unexplained = 0
        self.is_own = self.in_doubt = False
        self.found = None

    def restart(self) -> None:
        """Compare with nothing before, either; but that is still usual."""
        self.usual.clear()
        self.interrupt()

    def within(self, key: Key, cost: float, at: tuple[Frame, float]) -> None:
        """A cycle as usual."""
        self.calm += 1
        if self.cycles and self.calm < CALM:
            return
        if self.found is None and not self.in_doubt:
            # What nobody else explains is a part of what is usual.
            self._learn()
        self.interrupt()
        self.history.add(key, cost)
        self.usual.append(at)

    def beyond(self, key: Key, cost: float, at: tuple[Frame, float]) -> None:
        """One that costs more."""
        if not self.cycles:
            self.before = [
                each for each in self.usual if at[0].at - each[0].at <= OLDEST
            ]
        self.cycles += 1
        self.calm = 0
        self.since.append(at)
        self.held.append((key, cost))

    def explained(self, found: Explanation) -> None:
        """Somebody else does it."""
        self.found = found
        self.unexplained = 0
        self.is_own = self.in_doubt = False
        self.held.clear()

    def not_explained(self, *, in_doubt: bool = False) -> None:
        """After a while it is the instance's own."""
        self.found = None
        self.in_doubt = in_doubt
        self.unexplained += 1
        patience = LONG_PATIENCE if in_doubt else PATIENCE
        self.is_own = self.is_own or self.unexplained > patience - CYCLES
        if self.is_own:
            self._learn()

    def _learn(self) -> None:
        for key, cost in self.held:
            self.history.add(key, cost)
        self.held.clear()


@dataclass(slots=True)
class _Life:
    """What is known of one QEMU process."""

    process: object
    counting: object = None
    tracks: dict[str, _Track] = field(
        default_factory=lambda: {each.name: _Track() for each in SIGNALS}
    )


def _restored(told: Mapping[str, Any]) -> _Life:
    life = _Life(tuple(told["process"]))
    for name, track in life.tracks.items():
        track.history.restore(told[name])
    return life


class Judge:
    """Remembers instances from cycle to cycle. Not safe for threads."""

    def __init__(self, siblings: Topology) -> None:
        self._siblings = siblings
        self._lives: dict[str, _Life] = {}
        self._most: dict[int, float] = {}
        self._totals: deque[Mapping[int, float]] = deque(maxlen=CYCLES)
        self._at: float | None = None
        self._memo: dict[object, Any] = {}

    def look(self, frame: Frame) -> Found:
        """Judge every instance of this frame."""
        gap = self._at is not None and frame.at - self._at > LONGEST
        self._at = frame.at
        self._measure(frame)
        self._lives = {u: self._live(u, frame, gap=gap) for u in frame.seen}
        interferences: list[Interference] = []
        judged: set[str] = set()
        untold: dict[str, Mapping[str, str]] = {}
        for uuid in frame.seen:
            found, why, is_judged = self._judge(uuid, frame)
            interferences += found
            if why:
                untold[uuid] = why
            if is_judged:
                judged.add(uuid)
        self._memo.clear()
        return Found(interferences, frozenset(judged), untold)

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Begin with what is usual of those that still run.

        :raises ValueError: it is not what :meth:`saved` has given.
        """
        try:
            most = {int(b): float(n) for b, n in saved["most"].items()}
            lives = {u: _restored(told) for u, told in saved["lives"].items()}
        except (
            AttributeError, KeyError, OverflowError, TypeError, ValueError,
        ) as exc:  # fmt: skip
            raise ValueError(OTHER) from exc
        self._most, self._lives = most, lives

    def saved(self) -> Mapping[str, Any]:
        """What may outlive this process, as JSON has it."""
        return {
            "most": {str(bank): most for bank, most in self._most.items()},
            "lives": {
                uuid: {
                    "process": life.process,
                    **{n: t.history.saved() for n, t in life.tracks.items()},
                }
                for uuid, life in self._lives.items()
                if isinstance(life.process, tuple)
            },
        }

    def _live(self, uuid: str, frame: Frame, *, gap: bool) -> _Life:
        seen = frame.seen[uuid]
        life = self._lives.get(uuid)
        # One that can't be seen for a while is the same still.
        if life is None or seen.process not in (None, life.process):
            return _Life(seen.process, seen.counting)
        for track in life.tracks.values():
            if life.counting != seen.counting:
                track.restart()
            elif gap:
                track.interrupt()
        life.counting = seen.counting
        return life

    def _judge(
        self, uuid: str, frame: Frame
    ) -> tuple[list[Interference], Mapping[str, str], bool]:
        found: list[Interference] = []
        untold: dict[str, str] = {}
        known = 0
        for signal in SIGNALS:
            track = self._lives[uuid].tracks[signal.name]
            why = self._follow(uuid, signal, track, frame)
            known += not why
            untold |= why
            if track.found is not None:
                found.append(_interference(uuid, track, track.found))
        slower = any(
            track.cycles >= CYCLES and not track.is_own
            for track in self._lives[uuid].tracks.values()
        )
        return found, untold, bool(found) or (known > 0 and not slower)

    def _follow(
        self, uuid: str, signal: Signal, track: _Track, frame: Frame
    ) -> Mapping[str, str]:
        """Take one more cycle; the reasons why it says nothing."""
        seen = frame.seen[uuid]
        cost = signal.cost(seen)
        if isinstance(cost, str):
            track.interrupt()
            return {signal.label: cost}
        key = _key(seen)
        usual = track.history.usual(key)
        if usual is None:
            track.interrupt()
            track.history.add(key, cost)
            cycles = track.history.cycles(key)
            return {signal.label: f"{cycles} of {NEEDED} cycles of history"}
        at = (frame, cost / usual.median)
        if cost <= usual.fence:
            track.within(key, cost, at)
            return {}
        track.beyond(key, cost, at)
        if track.cycles < CYCLES:
            return {}
        if track.is_own:
            track.not_explained()
            return {}
        if len(track.before) < LEAST_BEFORE:
            track.not_explained(in_doubt=True)
            return {
                signal.label: f"it is slower, with {len(track.before)} of "
                f"{LEAST_BEFORE} usual cycles before to compare with"
            }
        return self._explain(uuid, signal, track)

    def _explain(
        self, uuid: str, signal: Signal, track: _Track
    ) -> Mapping[str, str]:
        contrast = Contrast(
            uuid,
            [frame for frame, _ in track.before],
            [frame for frame, _ in track.since],
            [excess for _, excess in (*track.before, *track.since)],
            self._most,
            self._siblings,
            self._memo,
        )
        untold: dict[str, str] = {}
        weak: Explanation | None = None
        for cause in signal.causes:
            found, why = cause.explain(contrast)
            if why is not None:
                untold[cause.name] = why
            if found is not None and found.is_strong:
                track.explained(found)
                return {}
            weak = weak or found
        if weak is not None:
            track.explained(weak)
            return {}
        track.not_explained(in_doubt=bool(untold))
        if not untold and not track.is_own:
            return {signal.label: UNKNOWN}
        return untold

    def _measure(self, frame: Frame) -> None:
        """The most that memory delivers, for as long as it can say so."""
        domains = {
            domain
            for seen in frame.seen.values()
            for domain in seen.bandwidth or ()
        }
        self._totals.append({each: total(frame, [each]) for each in domains})
        if len(self._totals) < CYCLES:
            return
        for domain in domains:
            lasting = min(each.get(domain, 0.0) for each in self._totals)
            self._most[domain] = max(self._most.get(domain, 0.0), lasting)


def _key(seen: Observation) -> Key:
    wanted = (seen.cpus or 0.0) + (seen.waited or 0.0)
    # Who never rests is at the edge of the last one.
    step = min(int(wanted / max(seen.vcpus, 1) / STEP), int(1 / STEP) - 1)
    if len(seen.reach) > FEW:
        return step, f"{len(seen.domains)} of {len(seen.reach)}"
    return step, ",".join(map(str, sorted(seen.domains)))


def _interference(
    uuid: str, track: _Track, found: Explanation
) -> Interference:
    number = len(track.before)
    excess = statistics.median(excess for _, excess in track.since)
    evidence = {
        "excess": excess,
        "culprit_before": found.guilt.before,
        "culprit": found.guilt.since,
        "cycles_before": number,
        **found.evidence,
    }
    return Interference(
        uuid,
        found.guilt.culprit,
        found.cause,
        max(0.0, 1 - 1 / excess),
        found.guilt.correlation,
        track.cycles,
        evidence,
    )
