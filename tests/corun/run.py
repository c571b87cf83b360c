# SPDX-License-Identifier: Apache-2.0
"""Plays a story, and says in each cycle what is seen and what is true."""

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ceilometer_perf.neighbours.observation import Frame, Observation
from tests.corun.machine import Domain, Running, State, alone, solve
from tests.corun.story import CYCLE, Host, Instance

#: Of the measured values, as standard deviation of their logarithm.
NOISE = {"cpi": 0.03, "mpki": 0.05, "held": 0.05, "moved": 0.05, "used": 0.02}
INERTIA = 0.5  # of that noise, from one cycle to the next
BACKGROUND = 0.01  # CPUs that somebody waits for on an idle host


@dataclass(frozen=True, slots=True)
class Moment:
    """One cycle: what is true, and what is seen of it.

    ``slow`` is how many times slower each instance is than alone.
    ``running`` and ``states`` are by name, ``seen`` is None if the agent read
    nothing.
    """

    cycle: int
    seen: Frame | None
    restarted: bool
    running: Mapping[str, Running]
    states: Mapping[str, State]
    slow: Mapping[str, float]
    domain_of: Mapping[str, int]
    #: Instances without right counters, or that are new to the judgement.
    lives: Mapping[str, tuple[object, ...]]
    broken: frozenset[str]


#: What a first reading does not say: rates need two.
FIRST: dict[str, Any] = dict.fromkeys(
    ("cpus", "waited", "cpi", "mpki", "bandwidth")
)


class _Noise:
    """Slowly changing errors, by what they are of."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._last: dict[tuple[str, str], float] = {}

    def times(self, name: str, what: str, value: float) -> float:
        fresh = self._chance.gauss(0, 1) * math.sqrt(1 - INERTIA**2)
        last = self._last.get((name, what), 0.0)
        self._last[name, what] = now = INERTIA * last + fresh
        return value * (1 + NOISE[what] * now)

    def waiting(self) -> float:
        return abs(self._chance.gauss(0, BACKGROUND))


def play(host: Host, seed: int, cycles: int) -> Iterator[Moment]:
    """Every cycle of the story, with measuring errors from this seed."""
    noise = _Noise(seed)
    known: set[tuple[str, int]] = set()
    solved: dict[object, tuple[dict[str, State], dict[str, float]]] = {}
    for cycle in host.play(cycles):
        running = {i.name: i.running(cycle) for i in host.instances}
        states: dict[str, State] = {}
        slow: dict[str, float] = {}
        for number, domain in enumerate(host.domains):
            here = {
                i.name: running[i.name]
                for i in host.instances
                if i.domain == number
            }
            key = (number, tuple(sorted(here.items(), key=lambda x: x[0])))
            if key not in solved:
                if len(solved) > 64:
                    solved.clear()
                solved[key] = _solve(domain, here)
            states |= solved[key][0]
            slow |= solved[key][1]
        seen = {
            i.name: _seen(i, states[i.name], host, noise)
            for i in host.instances
        }
        lives = {(i.name, i.life) for i in host.instances}
        if cycle in host.restarts:
            known.clear()  # the agent has no reading before
        for name, _ in lives - known:
            seen[name] = dataclasses.replace(seen[name], **FIRST)
        if cycle not in host.lost:
            known = lives
        frame = Frame(cycle * CYCLE, seen)
        yield Moment(
            cycle,
            None if cycle in host.lost else frame,
            cycle in host.restarts,
            running,
            states,
            slow,
            {i.name: i.domain for i in host.instances},
            {i.name: (i.life,) for i in host.instances},
            frozenset(
                i.name for i in host.instances if i.detached or i.unmonitored
            ),
        )


def _solve(
    domain: Domain, here: Mapping[str, Running]
) -> tuple[dict[str, State], dict[str, float]]:
    states = solve(domain, here)
    slow = {
        name: states[name].cost / alone(domain, each).cost
        for name, each in here.items()
    }
    return states, slow


def _seen(
    each: Instance, state: State, host: Host, noise: _Noise
) -> Observation:
    name = each.name
    held: dict[int, float] | None = None
    moved: dict[int, float] | None = None
    missing: dict[str, str] = {}
    if each.unmonitored:
        missing["occupancy"] = missing["bandwidth"] = "no RMID is free"
    else:
        held = {each.domain: noise.times(name, "held", state.held)}
        moved = {each.domain: noise.times(name, "moved", state.moved)}
    cpi = mpki = None
    if each.detached:
        missing["cpi"] = missing["mpki"] = "libvirtd was restarted"
    else:
        cpi = noise.times(name, "cpi", state.cpi)
        mpki = noise.times(name, "mpki", state.mpki)
    return Observation(
        process=(each.life,),
        counting=(each.counting, each.unmonitored),
        vcpus=each.vcpus,
        cpus=min(each.vcpus, noise.times(name, "used", state.used)),
        waited=state.waited + noise.waiting(),
        cpi=cpi,
        mpki=mpki,
        occupancy=held,
        bandwidth=moved,
        ran_on=each.cpus,
        allowed=each.cpus,
        domains=frozenset({each.domain}),
        missing=missing,
    )
