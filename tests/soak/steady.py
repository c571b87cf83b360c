# SPDX-License-Identifier: Apache-2.0
"""Nothing happens, for long: memory, threads and descriptors are flat."""

import dataclasses
import os
import time
from typing import Any

from ceilometer_perf import options
from ceilometer_perf.agent import pollsters
from ceilometer_perf.agent.discovery import PerfInstances
from ceilometer_perf.meters import METERS
from tests.functional.agent import Agent
from tests.lab import Guest, Lab
from tests.lab.ceilometer import configuration
from tests.soak.measure import COUNTERS, Spool, Usage, slope, usage
from tests.soak.row import IN_PROCESS, Row, Run, of_agent

WARM = 0.3  # of the cycles: until memory is what it will be
EVERY = 20  # cycles, between two looks at memory
SLOPE = 50.0  # KiB in 1,000 cycles


def _start(run: Run, guests: int) -> None:
    run.step(f"Starting {guests} guests")
    run.lab.start_all([Guest(f"paused-{n}", "paused") for n in range(guests)])


def _own() -> Usage:
    return usage(os.getpid(), family=False)


class InProcess:
    """Our discovery and all our pollsters, without an agent around them."""

    def __init__(self, lab: Lab) -> None:
        conf = configuration()
        conf.set_override("libvirt_uri", lab.uri_ro)
        options.register(conf)
        run_dir = str(lab.run_dir / "qemu")
        conf.set_override("qemu_run_dir", run_dir, group=options.GROUP)
        kept = str(lab.folder / "neighbours.json")
        conf.set_override("neighbours_file", kept, group=options.GROUP)
        self._discovery = PerfInstances(conf)
        self._pollsters = [
            getattr(pollsters, m.pollster)(conf) for m in METERS
        ]

    def cycle(self) -> int:
        """The number of samples."""
        cache: dict[str, Any] = {}
        instances = self._discovery.discover(None)
        return sum(
            sum(1 for _ in pollster.get_samples(None, cache, instances))
            for pollster in self._pollsters
        )


def in_process(run: Run, guests: int, cycles: int) -> Row:
    """One cycle after the other."""
    _start(run, guests)
    polls = InProcess(run.lab)
    due = guests * len(COUNTERS)
    samples = lost = 0
    memory = []
    before = _own()
    for n in range(cycles):
        run.step(f"Cycle: {n} of {cycles}")
        got = polls.cycle()
        samples += got
        lost += max(0, due - got)
        if n >= WARM * cycles and n % EVERY == 0:
            now = _own()
            memory.append((n / 1000, float(now.rss_kib)))
            if len(memory) == 1:
                before = now
    grows = slope(memory)
    row = Row(
        fault=f"none: {guests} guests, {cycles} cycles",
        happened=f"RSS slope {grows:+.1f} KiB in 1,000 cycles after the "
        f"first {WARM:.0%}",
        samples=samples,
        lost=lost,
        untrue=0,
        before=before,
        after=_own(),
        how=IN_PROCESS,
    )
    amiss = list(row.leaks())
    if lost:
        amiss.append(f"{lost} samples lost")
    if cycles >= 1000 and grows > SLOPE:
        amiss.append(f"{grows:.0f} KiB in 1,000 cycles")
    return dataclasses.replace(row, amiss=tuple(amiss))


def agent(run: Run, guests: int, seconds: float) -> Row:
    """The real agent."""
    _start(run, guests)
    with Agent(run.folder, run.lab, meters=("perf.*",)) as agent:
        spool = Spool(agent)
        spool.wait(0, 3 * guests)
        before = usage(agent.process.pid)
        started = time.monotonic()
        memory = []
        while (passed := time.monotonic() - started) < seconds:
            run.step(f"Polling: {passed:.0f} of {seconds:g} s")
            time.sleep(1)
            rss = usage(agent.process.pid).rss_kib
            memory.append((passed / 1000, float(rss)))
        row = of_agent(
            agent,
            before,
            spool.seen(),
            fault=f"none: {guests} guests, {seconds:g} s",
            happened=f"RSS slope {slope(memory):+.1f} KiB in 1,000 cycles",
            untrue=[],
            amiss=[],
        )
    if row.lost:
        late = f"{row.lost} samples lost"
        row = dataclasses.replace(row, amiss=(*row.amiss, late))
    return row
