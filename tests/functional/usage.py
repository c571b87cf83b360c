# SPDX-License-Identifier: Apache-2.0
"""Instances that are made up, and what agents publish of their counters.

Each is busy whenever it runs. The gate that judges its counters is the real
one. Times are in seconds since the first period began.
"""

import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ceilometer_perf.counters.own_gate import OwnGate
from ceilometer_perf.counters.trust import Evidence, Gate, Policy
from ceilometer_perf.host.counting import Count
from ceilometer_perf.host.processes import Process

HZ = 1_000_000_000  # cycles in a second, and ns
TICKS = os.sysconf("SC_CLK_TCK")
INTERVAL = 60
KEYS = "perf.cpu_cycles", "perf.task_clock"
UP = 10_000  # how long the hosts had been up
PIDS = itertools.count(1000)


@dataclass(frozen=True)
class Life:
    """One QEMU process; ``counted`` is what it had counted when it came."""

    start: float
    end: float
    host: str = "a"
    counted: float = 0.0
    pid: int = field(default_factory=PIDS.__next__)


@dataclass(frozen=True)
class Instance:
    """What happened to an instance, and to those who watch it.

    ``restarts`` is when its host's libvirtd was restarted, ``blind`` when
    there was no agent; ``own`` when the agent opened counters of its own,
    which it reads instead of libvirt's from then on; ``renamed`` when its
    resource got a new revision,
    ``twice`` whether a broker delivers all twice.
    """

    lives: tuple[Life, ...]
    restarts: float | None = None
    blind: tuple[float, float] = (0.0, 0.0)
    own: float = math.inf
    fresh_agent: bool = False
    renamed: tuple[float, ...] = ()
    twice: bool = False
    interval: int = INTERVAL

    def used(self, until: float) -> float:
        """Seconds of CPU time, whoever saw them."""
        return sum(
            max(0.0, min(until, life.end) - max(0.0, life.start))
            for life in self.lives
        )

    def samples(self, end: float) -> Iterator[tuple[float, float]]:
        """When, and how many cycles: what is published."""
        gates: dict[str, Gate] = {}
        own = OwnGate(Policy(), KEYS)
        for number in range(int(end // self.interval)):
            at = (number + 0.5) * self.interval
            if self.blind[0] <= at < self.blind[1]:
                if self.fresh_agent:
                    gates.clear()
                continue
            for life in self.lives:
                if not life.start < at <= life.end:
                    continue
                if self.own <= at:
                    yield from self._counted(own, life, at)
                else:
                    gate = gates.setdefault(life.host, Gate(Policy()))
                    yield from self._judged(gate, life, at)

    def _judged(
        self, gate: Gate, life: Life, at: float
    ) -> Iterator[tuple[float, float]]:
        ran = at - life.start
        seen = ran
        driver = 0.0
        if self.restarts is not None and life.start < self.restarts <= at:
            seen = (at - self.restarts) / 1000  # QEMU's main thread alone
            driver = UP + self.restarts
        counted = int((life.counted + seen) * HZ)
        counters = dict.fromkeys(KEYS, counted)
        evidence = Evidence(
            boot=life.pid,
            process=_process(life, at),
            driver=Process(1, int(driver * TICKS), 1, 0),
            booted_at=None,
            now=datetime.now(UTC),
            uptime=UP + at,
            late=0.0,
            stolen=0,
        )
        trusted = gate.judge("uuid", counters, evidence).trusted(counters)
        if "perf.cpu_cycles" in trusted:
            yield at, float(trusted["perf.cpu_cycles"])

    def _counted(
        self, gate: OwnGate, life: Life, at: float
    ) -> Iterator[tuple[float, float]]:
        ran = int((at - max(self.own, life.start)) * HZ)
        count = Count(0, life.pid, ran, [ran] * 2, [])
        judged = gate.judge("uuid", count, _process(life, at), 0, 0.0)
        trusted = judged.trusted(dict.fromkeys(KEYS, ran))
        if "perf.cpu_cycles" in trusted:
            yield at, float(trusted["perf.cpu_cycles"])


def _process(life: Life, at: float) -> Process:
    used = int((life.counted + at - life.start) * HZ)
    return Process(life.pid, int((UP + life.start) * TICKS), 3, used)
