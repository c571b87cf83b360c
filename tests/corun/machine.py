# SPDX-License-Identifier: Apache-2.0
"""A host whose instances share caches, memory and CPUs: a simple model.

It is no processor. It has what the judgement of neighbours relies on, by the
usual textbook models, and solves them for a steady state:

- a *miss curve*: the fewer bytes of its working set an instance holds, the
  greater the share of its accesses that miss;
- a *shared cache*: instances hold bytes in proportion to how many they
  fetch, up to their working sets (LRU without partitions);
- *memory*: latency grows with the load, as the queue M/M/1 does;
- *CPUs*: whoever wants more of one than there is waits, each in proportion;
- *SMT*: a core's other thread takes a share of its execution units.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HERTZ = 2.5e9
LINE = 64.0  # bytes
WRITTEN_BACK = 1.3  # bytes moved for each that is fetched
MISS = 75.0  # cycles that one costs while memory is idle
SMT = 0.45  # more cycles per instruction if the other thread never rests
FULLEST = 0.95  # share of memory's most that can be moved

_ROUNDS = 40
_DAMPING = 0.5
_ENOUGH = 0.001  # of change


@dataclass(frozen=True, slots=True)
class Phase:
    """What a program does: cycles per instruction if everything hits,
    accesses to the L3 cache per 1,000 instructions, bytes that it uses again
    and again, the share of accesses that misses anyway, and how the rest of
    the miss curve bends.
    """

    core: float
    accesses: float
    working_set: float
    cold: float = 0.05
    bend: float = 1.5

    def misses(self, held: float) -> float:
        """Per 1,000 instructions."""
        lacking = max(0.0, 1 - held / self.working_set)
        share = self.cold + (1 - self.cold) * math.pow(lacking, self.bend)
        return self.accesses * share


@dataclass(frozen=True, slots=True)
class Running:
    """An instance at one moment.

    ``demand``: how many CPUs it would use if it were alone. If it is
    ``patient`` it has that much work and no more, and uses more CPU time if
    it is slowed down; otherwise it uses what it gets.
    """

    phase: Phase
    vcpus: int
    cpus: frozenset[int]
    demand: float
    patient: bool = True


@dataclass(frozen=True, slots=True)
class Domain:
    """CPUs that share an L3 cache and a memory: two threads in each core.

    ``size`` in bytes, ``most`` in bytes per second.
    """

    first: int
    cores: int
    size: float = 32e6
    most: float = 14e9

    @property
    def cpus(self) -> range:
        """All threads; siblings are neighbours."""
        return range(self.first, self.first + 2 * self.cores)


@dataclass(slots=True)
class State:
    """What becomes of one instance."""

    cpi: float
    mpki: float = 0.0
    held: float = 0.0
    moved: float = 0.0  # bytes per second
    used: float = 0.0  # CPUs
    waited: float = 0.0  # CPUs
    core: float = 1.0  # cycles per instruction without misses
    miss: float = MISS

    @property
    def stretch(self) -> float:
        """Time per CPU time."""
        return (self.used + self.waited) / max(self.used, 1e-9)

    @property
    def cost(self) -> float:
        """Time per instruction."""
        return self.cpi * self.stretch


def solve(domain: Domain, running: Mapping[str, Running]) -> dict[str, State]:
    """The steady state of those that run in one domain."""
    states = {
        name: State(_alone_cpi(domain, each.phase), each.phase.misses(
            domain.size / len(running)
        ))
        for name, each in running.items()
    }  # fmt: skip
    all_of_it = [
        (each, states[name], tuple(each.cpus), states[name].cpi)
        for name, each in running.items()
    ]
    for _ in range(_ROUNDS):
        before = [(state.cpi, state.held) for state in states.values()]
        _schedule(domain, all_of_it)
        moved = _fill(domain, all_of_it)
        load = min(FULLEST, moved / domain.most)
        miss = MISS * (1 + 0.5 * load**2 / (1 - load))
        for each, state, _, _ in all_of_it:
            state.miss += _DAMPING * (miss - state.miss)
            cpi = state.core + state.mpki / 1000 * state.miss
            state.cpi += _DAMPING * (cpi - state.cpi)
            misses = each.phase.misses(state.held)
            state.mpki += _DAMPING * (misses - state.mpki)
        if all(
            abs(state.cpi - cpi) < _ENOUGH * cpi
            and abs(state.held - held) < _ENOUGH * domain.size
            for state, (cpi, held) in zip(states.values(), before, strict=True)
        ):
            break
    return states


@functools.lru_cache(4096)
def alone(domain: Domain, each: Running) -> State:
    """The steady state of one that has the domain for itself."""
    return solve(domain, {"": each})[""]


@functools.lru_cache(4096)
def _alone_cpi(domain: Domain, phase: Phase) -> float:
    return phase.core + phase.misses(domain.size) / 1000 * MISS


_One = tuple[Running, State, tuple[int, ...], float]
"""An instance, its state, its CPUs, its cycles per instruction if alone."""


def _schedule(domain: Domain, all_of_it: Sequence[_One]) -> None:
    load = [0.0] * (2 * domain.cores)
    first = domain.first
    parts: list[float] = []
    for each, state, cpus, cpi in all_of_it:
        slower = state.cpi / cpi if each.patient else 1.0
        part = min(each.demand * slower, each.vcpus) / len(cpus)
        parts.append(part)
        for cpu in cpus:
            load[cpu - first] += part
    for part, (each, state, cpus, _) in zip(parts, all_of_it, strict=True):
        got = beside = 0.0
        for cpu in cpus:
            here, there = load[cpu - first], load[(cpu - first) ^ 1]
            got += part if here <= 1 else part / here
            beside += there if there < 1 else 1.0
        state.used, state.waited = got, part * len(cpus) - got
        state.core = each.phase.core * (1 + SMT * beside / len(cpus))


def _fill(domain: Domain, all_of_it: Sequence[_One]) -> float:
    """Share the cache out; the bytes per second that are moved by all."""
    moved = 0.0
    hungry: list[tuple[float, float, State]] = []
    for each, state, _, _ in all_of_it:
        fetched = HERTZ * state.used / state.cpi * state.mpki / 1000
        state.moved = fetched * LINE * WRITTEN_BACK
        moved += state.moved
        hungry.append((each.phase.working_set, fetched, state))
    left = domain.size
    # Who needs least for what it fetches is the first to have all of it.
    hungry.sort(key=lambda each: each[0] / (each[1] or 1e-9))
    whole = sum(fetched for _, fetched, _ in hungry) or 1.0
    for working_set, fetched, state in hungry:
        held = min(working_set, left * fetched / whole) if left > 0 else 0.0
        left -= held
        whole = whole - fetched or 1.0
        state.held += _DAMPING * (held - state.held)
    return moved


def quieter(each: Running, before: Running) -> Running:
    """The one, with the program and the demand of the other."""
    return dataclasses.replace(
        each, phase=before.phase, demand=before.demand, patient=before.patient
    )
