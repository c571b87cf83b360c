# SPDX-License-Identifier: Apache-2.0
"""What happens on a made-up host, cycle by cycle, drawn from a seed.

Ordinary instances change their load and sometimes their program; some come
and go, restart, or lose their counters. On a host that is not ``peaceful``,
others begin at some moment to take what their neighbours need. Everything is
drawn beforehand; who is hurt by it is computed, not written down.
"""

import functools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.corun.machine import Domain, Phase, Running

CYCLE = 60.0  # seconds
HOUR = 60  # cycles
DAY = 24 * HOUR

ORDINARY: dict[str, Callable[[random.Random], Phase]] = {
    "web": lambda r: Phase(r.uniform(0.7, 1.0), r.uniform(8, 18), 8e6),
    "database": lambda r: Phase(
        r.uniform(0.8, 1.1), r.uniform(15, 30), r.uniform(6e6, 14e6), 0.1
    ),
    "graph": lambda r: Phase(
        r.uniform(0.8, 1.0), r.uniform(12, 20), r.uniform(2e6, 4e6), 0.5
    ),
    "compute": lambda r: Phase(r.uniform(0.4, 0.7), r.uniform(0.5, 2), 1e6),
    "build": lambda r: Phase(r.uniform(0.7, 1.0), r.uniform(4, 9), 4e6, 0.1),
}
"""Programs that share well, most of the time."""

GREEDY: dict[str, Callable[[random.Random], Phase]] = {
    "thrash": lambda r: Phase(0.7, r.uniform(30, 50), 60e6, 0.2),
    "stream": lambda r: Phase(0.6, r.uniform(40, 60), 4e9, 0.95),
    "spin": lambda r: Phase(0.5, 0.5, 1e6),
}
"""Programs that take most of the cache, the memory, the CPUs."""


@dataclass(slots=True)
class Instance:
    """One, and what it does at the moment."""

    name: str
    vcpus: int
    domain: int
    cpus: frozenset[int]
    phase: Phase
    level: float  # of its vCPUs, at noon
    patient: bool = True
    life: int = 0
    counting: int = 0
    detached: bool = False  # its counters, until it boots again
    unmonitored: bool = False  # its occupancy and bandwidth
    gone: bool = False
    swing: float = 0.3
    factor: float = 1.0

    def running(self, cycle: int) -> Running:
        """As the model takes it, in steps of a quarter of an hour."""
        day = math.sin(2 * math.pi * (cycle // 15 * 15) / DAY)
        level = self.level * self.factor
        if self.patient:
            level *= 1 + self.swing * day
        return Running(
            self.phase,
            self.vcpus,
            self.cpus,
            self.vcpus * min(1.0, max(0.02, level)),
            self.patient,
        )


@dataclass(slots=True)
class Host:
    """All of it; ``restarts`` are cycles in which the agent starts again."""

    domains: list[Domain]
    instances: list[Instance]
    events: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    restarts: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)  # cycles without a reading

    def at(self, cycle: int, event: Callable[[], None]) -> None:
        """Have something happen."""
        self.events.setdefault(cycle, []).append(event)

    def play(self, cycles: int) -> Iterator[int]:
        """Each cycle, after what happens in it."""
        for cycle in range(cycles):
            for event in self.events.get(cycle, ()):
                event()
            yield cycle


def draw(seed: int, cycles: int, *, peaceful: bool) -> Host:
    """A host of two domains, and all that will happen there."""
    chance = random.Random(seed)
    domains = [Domain(0, 8), Domain(16, 8)]
    instances = [
        _ordinary(chance, f"{number}-{index}", number, domain, index)
        for number, domain in enumerate(domains)
        for index in range(chance.randint(3, 4))
    ]
    host = Host(domains, instances)
    for each in list(instances):
        _live(chance, host, each, cycles)
    for number in range(len(domains)):
        _visit(chance, host, number, cycles)
        if not peaceful:
            _harm(chance, host, number, cycles)
    _break(chance, host, cycles)
    return host


def _ordinary(
    chance: random.Random, name: str, number: int, domain: Domain, index: int
) -> Instance:
    vcpus = chance.choice((2, 2, 4))
    # Cores of their own; their other threads are for those who come.
    first = domain.first + 4 * index
    cpus = range(first, first + 4, 1 if vcpus == 4 else 2)
    return Instance(
        name,
        vcpus,
        number,
        frozenset(cpus),
        chance.choice(list(ORDINARY.values()))(chance),
        chance.uniform(0.3, 0.65),
        swing=chance.uniform(0.1, 0.4),
    )


def _times(chance: random.Random, cycles: int, mean: float) -> Iterator[int]:
    """Moments at random, so many cycles apart on average."""
    at = chance.expovariate(1 / mean)
    while at < cycles:
        yield int(at)
        at += chance.expovariate(1 / mean)


def _live(
    chance: random.Random, host: Host, each: Instance, cycles: int
) -> None:
    """Innocent changes: of load, of the program, a boot."""
    for at in _times(chance, cycles, HOUR):
        factor = chance.choice((0.6, 0.8, 1.0, 1.0, 1.2, 1.4))
        host.at(at, functools.partial(setattr, each, "factor", factor))
    usual = each.phase
    for at in _times(chance, cycles, 12 * HOUR):
        other = chance.choice(list(ORDINARY.values()))(chance)
        lasts = chance.randint(10, 2 * HOUR)
        host.at(at, functools.partial(setattr, each, "phase", other))
        host.at(at + lasts, functools.partial(setattr, each, "phase", usual))
    for at in _times(chance, cycles, 4 * DAY):
        host.at(at, functools.partial(_boot, each))


def _boot(each: Instance) -> None:
    each.life += 1
    each.detached = False


def _visit(
    chance: random.Random, host: Host, number: int, cycles: int
) -> None:
    """Harmless ones that migrate to the host, and away again."""
    domain = host.domains[number]
    for count, at in enumerate(_times(chance, cycles, 16 * HOUR)):
        core = chance.choice((12, 14))
        visitor = Instance(
            f"{number}-visitor-{count}",
            1,
            number,
            frozenset({domain.first + core}),
            ORDINARY["compute"](chance),
            chance.uniform(0.2, 0.9),
        )
        host.at(at, functools.partial(host.instances.append, visitor))
        leaves = at + chance.randint(HOUR // 2, 8 * HOUR)
        host.at(leaves, functools.partial(host.instances.remove, visitor))


def _harm(chance: random.Random, host: Host, number: int, cycles: int) -> None:
    """One that takes what others need, now and then."""
    kind = chance.choice(("thrash", "stream", "stream", "cpu", "smt"))
    greedy = _greedy(chance, host, number, kind)
    takes = GREEDY[kind if kind in GREEDY else "spin"](chance)
    rest = greedy.phase
    comes = chance.random() < 0.3  # it does not wait on the host

    def begin(level: float) -> None:
        if comes:
            host.instances.append(greedy)
        greedy.phase, greedy.level, greedy.patient = takes, level, False

    def end() -> None:
        if comes:
            host.instances.remove(greedy)
            _boot(greedy)
        greedy.phase, greedy.level, greedy.patient = rest, 0.05, True

    if not comes:
        host.instances.append(greedy)
    at = chance.randint(3 * HOUR, 6 * HOUR)
    while at < cycles:
        lasts = chance.randint(15, 3 * HOUR)
        host.at(at, functools.partial(begin, chance.uniform(0.6, 1.0)))
        host.at(at + lasts, end)
        at += lasts + chance.randint(2 * HOUR, 8 * HOUR)


def _greedy(
    chance: random.Random, host: Host, number: int, kind: str
) -> Instance:
    domain = host.domains[number]
    victim = chance.choice([i for i in host.instances if i.domain == number])
    if kind == "cpu":
        cpus = sorted(victim.cpus)
    elif kind == "smt":
        cpus = [cpu ^ 1 for cpu in sorted(victim.cpus)]
    else:
        free = [cpu for cpu in domain.cpus if cpu % 2]
        cpus = chance.sample(free, 6 if kind == "stream" else 3)
    rest = ORDINARY["compute"](chance)
    return Instance(
        f"{number}-{kind}", len(cpus), number, frozenset(cpus), rest, 0.05
    )


def _break(chance: random.Random, host: Host, cycles: int) -> None:
    """What goes wrong with the evidence."""
    for at in _times(chance, cycles, 2 * DAY):
        host.restarts.add(at)
    for at in _times(chance, cycles, 12 * HOUR):
        host.lost.update(range(at, at + chance.randint(1, 20)))
    for each in list(host.instances):
        change = functools.partial(functools.partial, setattr, each)
        for at in _times(chance, cycles, 5 * DAY):
            # A restart of libvirtd; some time later somebody reboots it.
            host.at(at, change("detached", True))
            lasts = chance.randint(HOUR, DAY)
            host.at(at + lasts, functools.partial(_boot, each))
        for at in _times(chance, cycles, 3 * DAY):
            host.at(at, functools.partial(_recount, each))
        for at in _times(chance, cycles, 4 * DAY):
            host.at(at, change("unmonitored", True))
            lasts = chance.randint(20, 6 * HOUR)
            host.at(at + lasts, change("unmonitored", False))


def _recount(each: Instance) -> None:
    each.counting += 1
