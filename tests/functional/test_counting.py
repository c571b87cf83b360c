# SPDX-License-Identifier: Apache-2.0
"""Own counters on processes of our own: the races, and what they cost."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.events import EVENTS
from ceilometer_perf.host import perf_event, perf_groups, processes
from ceilometer_perf.host.counted import Counted
from ceilometer_perf.host.counting import Count, Counting, Wanted, decoded
from ceilometer_perf.host.qemus import Qemus
from tests.functional.agent import wait_for
from tests.functional.machine import (
    Busy,
    call_interrupts,
    open_to_all,
    passing_for_qemu,
    real_time,
    shows_calls,
)
from tests.lab import pmu
from tests.lab.stolen import TICK, stolen

UUID = "c3f9d1f2-8a0e-4a57-9d0c-5e0b7c1a9f05"
NAMES = (
    "cpu_cycles", "instructions", "cache_references", "cache_misses",
    "branch_instructions", "branch_misses", "task_clock", "page_faults",
)  # fmt: skip
SOFTWARE = [e for e in map(EVENTS.__getitem__, NAMES) if e.kind == "software"]

#: Starts threads all the time, with a pause now and then.
RESTLESS = """
import itertools, random, threading, time
def work():
    end = time.thread_time() + random.random() / 500
    while time.thread_time() < end:
        pass
for number in itertools.count():
    threading.Thread(target=work).start()
    time.sleep(0.02 if number % 20 == 0 else random.random() / 500)
"""

#: Counts a process of which it is given the PID file's folder, the PID and
#: for how many ns; prints what it read each time.
COUNT = """
import json, sys, time
from pathlib import Path
from ceilometer_perf.host import processes
from ceilometer_perf.host.counting import Counting, Wanted, decoded
run, pid, uuid, until, *events = sys.argv[1:]
process = processes.read(Path("/proc"), int(pid))
wanted = Wanted("web", uuid, *process.identity, True)
counting = Counting(Path(run))
enabled = 0
while True:
    (count,) = decoded(counting.read([wanted], events), len(events))
    print(json.dumps(count._asdict()))
    if count.error or count.enabled >= int(until):
        break
    time.sleep(0.01)
"""


@pytest.fixture
def guest() -> Iterator[Busy]:
    with passing_for_qemu(UUID) as process:
        yield process


@pytest.fixture
def run(tmp_path: Path, guest: Busy) -> Path:
    (tmp_path / "web.pid").write_text(str(guest.pid))
    return tmp_path


class Cpu:
    """A process's CPU time in ns, of its ended threads too."""

    def __init__(self, pid: int) -> None:
        self._clock = ~pid << 3 | 2  # see clock_getcpuclockid(3)

    def now(self) -> int:
        return time.clock_gettime_ns(self._clock)

    def used(self, seconds: float) -> None:
        until = self.now() + seconds * 1e9
        wait_for(lambda: self.now() >= until, 120, "CPU time", every=0.01)


def coverages(
    cpu: Cpu, enabled: Callable[[], int], seconds: float
) -> tuple[float, float]:
    """At least and at most, as each reading takes a moment.

    And as a clock counts what was stolen, which is known to a tick; at ticks
    alone is a running thread's CPU time brought up to date for others.
    """
    taken = stolen()
    a, before, b = cpu.now(), enabled(), cpu.now()
    cpu.used(seconds)
    c, after, d = cpu.now(), enabled(), cpu.now()
    taken = (stolen() - taken + TICK) * 1e9
    late = TICK * 1e9  # Python runs one thread at a time
    least = (after - before - taken - late) / (d - a)
    return least, (after - before + late) / (c - b)


def wanted(pid: int) -> Wanted:
    process = processes.read(Path("/proc"), pid)
    assert process is not None
    return Wanted("web", UUID, *process.identity, hardware=False)


def read(counting: Counting, pid: int) -> Count:
    (count,) = decoded(counting.read([wanted(pid)], NAMES), len(NAMES))
    return count


# Threads that start while others are being opened


def test_a_process_that_starts_threads_all_the_time() -> None:
    """Never are threads missed, or counted twice."""
    process = subprocess.Popen([sys.executable, "-c", RESTLESS])
    cpu = Cpu(process.pid)
    qemus = Qemus(Path())
    deadline = time.monotonic() + 120
    right = 0
    try:
        cpu.used(0.1)
        while right < 10:
            assert time.monotonic() < deadline
            right += counts_right(process.pid, qemus, cpu)
    finally:
        process.kill()
        process.wait()


def counts_right(pid: int, qemus: Qemus, cpu: Cpu) -> bool:
    """Whether it could be opened; and then it does."""
    try:
        counted = Counted(lambda: qemus.threads(pid), SOFTWARE)
    except BlockingIOError:
        return False
    try:
        least, most = coverages(cpu, lambda: counted.read()[0], 0.1)
    except ChildProcessError:
        return False
    finally:
        counted.close()
    assert least < 1.05
    # A thread's own end is not counted, and these are short.
    assert most > 0.9
    return True


class Between:
    """Has a process start a thread between the openings of two events."""

    def __init__(self, guest: Busy) -> None:
        self._guest = guest
        self._open = perf_event.open_event
        self._events = 0

    def __call__(self, *arguments: Any, **more: Any) -> int:
        handle = self._open(*arguments, **more)
        if more["thread"] == self._guest.pid:
            self._events += 1
            if self._events == 1:
                self._guest.start_thread()
        return handle


def test_a_thread_that_starts_between_leader_and_sibling(
    guest: Busy, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perf_groups, "open_event", Between(guest))
    counting = Counting(run)
    least, most = coverages(
        Cpu(guest.pid), lambda: clock(counting, guest), 0.2
    )
    assert least < 1.01
    assert most > 0.99


def test_such_a_thread_that_was_not_seen(
    guest: Busy, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does not open the sibling (EINVAL), or can't add it up
    (ECHILD): all is opened again, in one group."""
    tids = set(guest.tids())
    looks = iter([tids, tids])
    all_of_them = Qemus.threads
    monkeypatch.setattr(
        Qemus, "threads",
        lambda self, pid: next(looks, None) or all_of_them(self, pid),
    )  # fmt: skip
    monkeypatch.setattr(perf_groups, "open_event", Between(guest))
    counting = Counting(run)
    least, most = coverages(
        Cpu(guest.pid), lambda: clock(counting, guest), 0.2
    )
    assert least < 1.01
    assert most > 0.99
    (counted,) = counting._open.values()
    assert counted.layout == 0


def clock(counting: Counting, guest: Busy) -> int:
    count = read(counting, guest.pid)
    assert count.error == 0
    return count.enabled


def test_threads_start_and_end(guest: Busy, run: Path) -> None:
    """Later ones are counted, and once."""
    counting = Counting(run)
    clock(counting, guest)

    def starting() -> int:
        guest.start_thread()
        return clock(counting, guest)

    least, most = coverages(Cpu(guest.pid), starting, 0.2)
    assert least < 1.01
    assert most > 0.99


def test_process_that_ends(guest: Busy, run: Path) -> None:
    """A closed process reads its last counts; and another may have its PID."""
    counting = Counting(run)
    clock(counting, guest)
    one = wanted(guest.pid)
    other = one._replace(started=one.started + 1)
    (count,) = decoded(counting.read([other], NAMES), len(NAMES))
    assert count.error == errno.ESRCH
    (run / "web.pid").unlink()
    (count,) = decoded(counting.read([one], NAMES), len(NAMES))
    assert count.error == errno.ESRCH
    why = verdicts.not_counted(count.error)
    assert why.verdict is Verdict.NOT_RUNNING


# Fewer counters than events


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The emulated PMU."""
    pmu.build_fake(tmp_path / "pmu.so", tmp_path)
    return tmp_path / "pmu.so"


def counts(run: Path, pid: int, *within: str, until: int) -> list[Any]:
    done = subprocess.run(
        [*within, sys.executable, "-c", COUNT, str(run), str(pid), UUID,
         str(until), *NAMES],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("counters", [1, 2, 3, 5, 6])
def test_multiplexed_values_only_grow(
    guest: Busy, run: Path, library: Path, counters: int
) -> None:
    """And come to what there was, from however little of it."""
    found = counts(
        run, guest.pid, "env", f"LD_PRELOAD={library}",
        f"FAKEPMU_COUNTERS={counters}", until=1_500_000_000,
    )  # fmt: skip
    last = dict.fromkeys(NAMES, 0)
    for count in found:
        assert count["error"] == 0
        now = dict(zip(NAMES, count["counts"], strict=True))
        assert all(now[name] >= last[name] for name in NAMES)
        last = now
    enabled = found[-1]["enabled"]
    missed = found[-1]["missed"] or [0] * len(NAMES)
    for name, ns in zip(NAMES, missed, strict=True):
        share = 1 - ns / enabled
        if name in ("task_clock", "page_faults") or counters == 6:
            assert share == 1
        else:
            assert share == pytest.approx(min(1, SHARES[counters]), abs=0.1)
    for name, rate in RATES.items():
        truth = rate * enabled / 1000
        assert last[name] == pytest.approx(truth, rel=0.1)


RATES = {
    name: pmu.RATES[pmu.HARDWARE_EVENTS[name]]
    for name in NAMES
    if name in pmu.HARDWARE_EVENTS
}
#: By how many counters there are: how long one of six events is on one.
SHARES = {1: 1 / 6, 2: 1 / 3, 3: 1 / 3, 5: 2 / 3}


# Privilege


@pytest.fixture
def somebody_s(tmp_path: Path) -> Iterator[int]:
    """A process of a user that is neither root nor ours."""
    open_to_all(tmp_path)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
               "sh", "-c", "while :; do :; done", "sh",
               "-uuid", UUID]  # fmt: skip
    process = subprocess.Popen(command)
    (tmp_path / "web.pid").write_text(str(process.pid))
    name = Path(f"/proc/{process.pid}/comm")
    wait_for(lambda: name.read_text() == "sh\n", 10, "it spins")
    yield process.pid
    process.kill()
    process.wait()


def capabilities(*kept: str) -> tuple[str, ...]:
    """What drops all others, for good."""
    sets = ",".join(["-all", *(f"+{name}" for name in kept)])
    return "setpriv", f"--bounding-set={sets}", "--inh-caps=-all"


def test_cap_perfmon_alone_suffices(
    somebody_s: int, tmp_path: Path, library: Path
) -> None:
    """Unless the kernel is one that asks for more."""
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    within = (*capabilities("perfmon"), "env", f"LD_PRELOAD={library}")
    *_, count = counts(tmp_path, somebody_s, *within, until=100_000_000)
    if paranoid > 2:
        assert count["error"] == errno.EACCES
    else:
        assert count["error"] == 0
        assert min(count["counts"]) >= 0


def test_nothing_is_counted_without_it(
    somebody_s: int, tmp_path: Path, library: Path
) -> None:
    within = (*capabilities(), "env", f"LD_PRELOAD={library}")
    (count,) = counts(tmp_path, somebody_s, *within, until=0)
    why = verdicts.not_counted(count["error"])
    assert why.verdict is Verdict.REFUSED
    assert "perf_event_paranoid" in why.remedy


# Interrupts


class Apart:
    """A process of two threads that spin on other CPUs than we are on.

    On a CPU each, if there are so many.
    """

    def __init__(self, guest: Busy) -> None:
        guest.start_thread()
        first, *others = sorted(os.sched_getaffinity(0))
        self.cpus = others[:2] or [first]
        self.tids = guest.tids()
        for number, tid in enumerate(self.tids):
            os.sched_setaffinity(tid, {self.cpus[number % len(self.cpus)]})
        self._cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {first})
        #: Whether a thread always runs on each of its CPUs while we read.
        self.runs = bool(others)

    def interrupts(self, read: Callable[[], object]) -> float:
        """On each of its CPUs, for one reading."""
        try:
            self.runs &= all(real_time(tid, 1) for tid in self.tids)
            real_time(0, 2)
            time.sleep(0.01)
            return call_interrupts(self.cpus, read) / len(self.cpus)
        finally:
            for tid in (0, *self.tids):
                real_time(tid, 0)

    def end(self) -> None:
        os.sched_setaffinity(0, self._cpus)


@pytest.fixture
def apart(guest: Busy) -> Iterator[Apart]:
    made = Apart(guest)
    yield made
    made.end()


def test_one_interrupt_for_each_running_thread(
    guest: Busy, apart: Apart
) -> None:
    """However many events; where there is a single CPU, ours, not even one."""
    events = [EVENTS[name] for name in pmu.SOFTWARE_EVENTS]
    counted = Counted(lambda: set(guest.tids()), events)
    together = apart.interrupts(counted.read)
    counted.close()
    singles = [Counted(lambda: set(guest.tids()), [e]) for e in events]
    apiece = apart.interrupts(lambda: [each.read() for each in singles])
    for each in singles:
        each.close()
    assert together <= 1.5
    if apart.runs and shows_calls():
        assert together >= 0.8
        assert apiece >= 0.8 * len(events)
