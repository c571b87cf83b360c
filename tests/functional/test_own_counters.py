# SPDX-License-Identifier: Apache-2.0
"""Own counters through the real agent and its helper, whatever happens."""

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ceilometer_perf import wiring
from ceilometer_perf.doctor import agent_conf
from ceilometer_perf.host.processes import Process, Processes
from ceilometer_perf.meters import METERS, PERF_KEYS
from ceilometer_perf.wiring import Parts
from tests.functional.agent import Agent, wait_for
from tests.functional.helper import (
    COUNTING,
    counters_open,
    counting,
    helpers,
)
from tests.functional.machine import call_interrupts, has_used, shows_calls
from tests.lab import Guest, Lab
from tests.soak.measure import CLOCK, Spool, Truth, falls

EVERYTHING = (
    "perf.hw.*", "perf.sw.*", "perf.coverage", "perf.withheld",
    "perf.derived.*",
)  # fmt: skip
COUNTERS = {meter.name for meter in METERS if meter.key in PERF_KEYS}
WITHHELD = "perf.withheld"
IPC = "perf.derived.ipc"
CYCLES = "perf.hw.cpu_cycles"
EVENTS, HARDWARE = 10, 6  # of [perf] own_events
FOUR = ("cpu_cycles", "instructions", "cache_references", "cache_misses")
REALTIME = """<cputune>
  <vcpusched vcpus='0' scheduler='fifo' priority='1'/>
</cputune>"""
ONE_OF_TWO = "<vcpu placement='static' current='1'>2</vcpu>"

Sample = dict[str, Any]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        yield lab


@pytest.fixture(autouse=True)
def no_guest_is_left(lab: Lab) -> Iterator[None]:
    yield
    for domain in lab.connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        domain.undefine()


def polled(folder: Path, lab: Lab, **options: Any) -> Agent:
    perf = counting(lab, folder, **options)
    return Agent(folder, lab, meters=EVERYTHING, perf=perf)


def about(sample: Sample) -> dict[str, Any]:
    found: dict[str, Any] = sample["resource_metadata"]["perf"]
    return found


def samples(agent: Agent, guest: Guest, *names: str) -> list[Sample]:
    return [
        s
        for s in agent.samples()
        if s["resource_id"] == guest.uuid and s["counter_name"] in names
    ]


def counted(
    agent: Agent, guest: Guest, source: str, after: float = 0
) -> list[Sample]:
    """The clock's samples from a source, read after that time."""
    return [
        s
        for s in samples(agent, guest, CLOCK)
        if about(s)["source"] == source and s["monotonic_time"] > after
    ]


def wait_for_counted(
    agent: Agent, guest: Guest, source: str = "own", *, count: int = 3,
    after: float = 0,
) -> list[Sample]:  # fmt: skip
    def enough() -> list[Sample]:
        found = counted(agent, guest, source, after)
        return found if len(found) >= count else []

    return wait_for(
        enough, 120, f"{count} samples of {guest.name} from {source}"
    )


def wait_for_coverage(agent: Agent, guest: Guest, after: float = 0) -> None:
    """Own counters are compared with CPU time, and see all of it."""

    def seen() -> list[float]:
        return [
            s["counter_volume"]
            for s in samples(agent, guest, "perf.coverage")
            if about(s)["source"] == "own" and s["monotonic_time"] > after
        ]

    wait_for(lambda: len(seen()) >= 2, 120, f"coverage of {guest.name}")
    found = seen()
    assert 0.95 < min(found) <= max(found) < 1.05, found


def threads(lab: Lab, guest: Guest) -> int:
    return len(list(Path(f"/proc/{lab.qemu_pid(guest)}/task").iterdir()))


def said(agent: Agent) -> list[str]:
    """Our own warnings."""
    return [line for line in agent.lines() if "ceilometer_perf." in line]


def wait_for_line(agent: Agent, words: str) -> str:
    def found() -> str:
        return next((line for line in said(agent) if words in line), "")

    return wait_for(found, 60, f"a line about {words}")


def sinces(counted: list[Sample]) -> set[str]:
    return {about(s)["since"] for s in counted}


def assert_true(truth: Truth, *agents: Agent) -> None:
    """No sample of a clock, or of the emulated PMU, is anything but true."""
    seen = [each for agent in agents for each in Spool(agent).seen()]
    assert truth.untrue(seen) == []
    assert falls(seen) == []
    for agent in agents:
        assert agent.errors() == []


def test_libvirtd_killed_under_a_busy_guest(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start(Guest("killed", "busy"))
    truth = Truth(lab, [guest])
    with truth.watching(), polled(tmp_path, lab) as agent:
        wait_for_counted(agent, guest, "libvirt")
        assert helpers(tmp_path, COUNTING) == []
        lab.libvirtd.kill(signal.SIGKILL)
        killed = time.monotonic()
        lab.libvirtd.start()
        wait_for_counted(agent, guest, count=4)
        wait_for_coverage(agent, guest)
        rebooted = time.monotonic()
        lab.reboot(guest)
        wait_for_counted(agent, guest, "libvirt", after=rebooted)
        # Nothing of it stays open.
        (helper,) = helpers(tmp_path, COUNTING)
        wait_for(lambda: not counters_open(helper), 20, "its counters close")
        assert_true(truth, agent)
    own = counted(agent, guest, "own")
    assert len(sinces(own)) == 1
    libvirt_s = counted(agent, guest, "libvirt")
    assert [
        s for s in libvirt_s if killed < s["monotonic_time"] < rebooted
    ] == []
    assert len(sinces(libvirt_s)) == 2
    cycles = {
        s["monotonic_time"]
        for s in samples(agent, guest, WITHHELD)
        if killed < s["monotonic_time"] <= own[0]["monotonic_time"]
    }
    assert len(cycles) <= 2
    names = {
        s["counter_name"]
        for s in samples(agent, guest, *COUNTERS, IPC)
        if about(s)["source"] == "own"
    }
    assert {CYCLES, CLOCK, "perf.sw.page_faults", IPC} <= names


def test_agent_that_comes_after_the_restart(lab: Lab, tmp_path: Path) -> None:
    """And an instance without events; a healthy one stays libvirt's."""
    restarted = lab.start(Guest("restarted", "busy"))
    bare = lab.start(Guest("bare", "busy", events=()))
    has_used(lab, restarted, 0.3)
    lab.libvirtd.restart()
    right = lab.start(Guest("right", "busy"))
    guests = [restarted, bare, right]
    truth = Truth(lab, guests)
    with truth.watching(), polled(tmp_path, lab) as agent:
        for guest in (restarted, bare):
            wait_for_counted(agent, guest)
            wait_for_coverage(agent, guest)
        wait_for_counted(agent, right, "libvirt")
        (helper,) = helpers(tmp_path, COUNTING)
        status = Path(f"/proc/{helper}/status").read_text()
        assert_true(truth, agent)
    assert f"\nCapEff:\t{1 << 38:016x}\n" in status  # CAP_PERFMON alone
    for guest in (restarted, bare):
        assert counted(agent, guest, "libvirt") == []
        assert len(sinces(counted(agent, guest, "own"))) == 1
    assert counted(agent, right, "own") == []
    assert said(agent) == []


def test_threads_that_come_and_go(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start(Guest("plug", "busy", events=(), extra=(ONE_OF_TWO,)))
    truth = Truth(lab, [guest])
    domain = lab.domain(guest)
    with truth.watching(), polled(tmp_path, lab) as agent:
        before = wait_for_counted(agent, guest)
        domain.setVcpus(2)
        for number in range(1, 6):
            domain.addIOThread(number, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            if number % 2:
                domain.delIOThread(number, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        after = time.monotonic()
        wait_for_counted(agent, guest, after=after)
        wait_for_coverage(agent, guest, after)
        assert_true(truth, agent)
    assert sinces(counted(agent, guest, "own")) == sinces(before)


@pytest.mark.parametrize("killed", ["helper", "agent", "both"])
def test_killed(lab: Lab, tmp_path: Path, killed: str) -> None:
    guest = lab.start(Guest("survivor", "busy", events=()))
    truth = Truth(lab, [guest])
    with truth.watching(), contextlib.ExitStack() as stack:
        first = stack.enter_context(polled(tmp_path / "first", lab))
        before = wait_for_counted(first, guest)
        (helper,) = helpers(tmp_path / "first", COUNTING)
        killed_at = time.monotonic()
        if killed != "agent":
            os.kill(helper, signal.SIGKILL)
        last = first
        if killed != "helper":
            os.killpg(first.process.pid, signal.SIGKILL)
            last = stack.enter_context(polled(tmp_path / "second", lab))
        wait_for_counted(last, guest, after=killed_at)
        wait_for_coverage(last, guest, killed_at)
        wait_for(
            lambda: helper not in helpers(tmp_path / "first"),
            30,
            "the helper has nobody to serve",
        )
        agents = {first, last}
        assert_true(truth, *agents)
    own = [s for agent in agents for s in counted(agent, guest, "own")]
    assert len(sinces(own)) == 2
    assert len(sinces(before)) == 1


# More events than counters


def hardware_samples(agent: Agent, guest: Guest) -> list[Sample]:
    return [
        s
        for s in samples(agent, guest, *COUNTERS)
        if s["counter_name"].startswith("perf.hw.")
    ]


@pytest.mark.parametrize(
    "machine",
    [
        {"FAKEPMU_COUNTERS": 2},  # too small a group for all can't be opened
        {"FAKEPMU_COUNTERS": 6, "FAKEPMU_TAKEN": 3},  # it never runs
    ],
)
def test_multiplexed(
    lab: Lab, tmp_path: Path, machine: dict[str, int]
) -> None:
    guest = lab.start(Guest("turns", "busy", events=()))
    within = "env " + " ".join(f"{k}={v}" for k, v in machine.items())
    truth = Truth(lab, [guest])
    with truth.watching(), polled(tmp_path, lab, within=within) as agent:
        agent.wait_for_samples(5, seconds=120, counter_name=IPC)
        wait_for_coverage(agent, guest)
        assert_true(truth, agent)
    hardware = hardware_samples(agent, guest)
    assert len({s["counter_name"] for s in hardware}) == HARDWARE
    # In a short time one may be on a counter for all of it; it is exact then.
    scaled = [s for s in hardware if "running" in about(s)]
    assert len(scaled) >= len(hardware) / 2
    for sample in hardware:
        assert about(sample)["flags"] == ["multiplexed"] * (sample in scaled)
    for sample in scaled:
        assert 0.2 <= about(sample)["running"] < 1
    # Both of a pair counted at the same time, in phases of more and of less.
    ipc = samples(agent, guest, IPC)
    assert [s["counter_volume"] for s in ipc] == pytest.approx(
        [1.5] * len(ipc), rel=0.001
    )


def test_too_small_a_share(lab: Lab, tmp_path: Path) -> None:
    """Software events are exact all the same."""
    guest = lab.start(Guest("turns", "busy", events=()))
    truth = Truth(lab, [guest])
    within = "env FAKEPMU_COUNTERS=1"
    with truth.watching(), polled(tmp_path, lab, within=within) as agent:
        line = wait_for_line(agent, "multiplexed")
        wait_for_counted(agent, guest, count=5)
        assert_true(truth, agent)
    assert "min_running" in line
    # Over a short time one of them may have been on the counter for all of it.
    for sample in hardware_samples(agent, guest):
        assert about(sample).get("running", 1) >= 0.2
    withheld = samples(agent, guest, WITHHELD)
    assert {"multiplexed": HARDWARE} in [
        about(s)["verdicts"] for s in withheld
    ]


# What the kernel, or a user, does not allow


def test_realtime_instances_are_left_alone(lab: Lab, tmp_path: Path) -> None:
    """Not one event is opened on them."""
    lab.start(Guest("realtime", "paused", events=(), extra=(REALTIME,)))
    usual = lab.start(Guest("usual", "busy", events=()))
    with polled(tmp_path, lab) as agent:
        wait_for_counted(agent, usual)
        (helper,) = helpers(tmp_path, COUNTING)
        threads = len(
            list(Path(f"/proc/{lab.qemu_pid(usual)}/task").iterdir())
        )
        assert counters_open(helper) == threads * 10
    (line,) = said(agent)
    assert "poll_realtime_guests" in line


def own_parts(lab: Lab, folder: Path, **options: object) -> Parts:
    """What the agent reads with, in this process, which counts."""
    path = folder / "ceilometer.conf"
    lines = {"qemu_run_dir": lab.run_dir / "qemu", **options}
    path.write_text(
        "\n".join(["[perf]", *(f"{k} = {v}" for k, v in lines.items())])
    )
    conf = agent_conf.read([str(path)], lab.uri_ro)
    return wiring.parts(conf, agent_conf.URIS)


def cycle(parts: Parts) -> None:
    """Read all that there is to read."""
    report = parts.look()
    rdt = parts.look_at_rdt(report)
    waiting = parts.look_at_waiting(report)
    parts.look_at_neighbours(report, rdt, waiting)


@pytest.mark.parametrize("events", [(), FOUR])
@pytest.mark.parametrize("asked_for", [False, True])
def test_interrupts_of_a_realtime_instance(
    lab: Lab, tmp_path: Path, asked_for: bool, events: tuple[str, ...]
) -> None:
    """None by all that a cycle reads, the opening of own counters included,
    unless asked for."""
    guest = lab.start(
        Guest("realtime", "spin", events=events, extra=(REALTIME,))
    )
    # Each other set of options opens for itself.
    parts = [
        own_parts(
            lab, tmp_path, poll_realtime_guests=asked_for, coverage_floor=n
        )
        for n in (1, 2, 3)
    ]
    pid = lab.qemu_pid(guest)
    before = os.sched_getaffinity(0)
    first, *_, cpu = sorted(before) * 2
    for tid in Processes(lab.run_dir).threads(Process(pid, 0, 0, 0)):
        os.sched_setaffinity(tid, {cpu})
    os.sched_setaffinity(0, {first})
    try:
        # Somebody else's come on top.
        interrupts = min(
            call_interrupts([cpu], functools.partial(cycle, p)) for p in parts
        )
    finally:
        os.sched_setaffinity(0, before)
    counted = guest.uuid in parts[0].look().judged
    assert counted == asked_for
    if not asked_for:
        assert interrupts <= 0.3
    elif first != cpu and shows_calls():
        assert interrupts >= 0.5


def test_too_few_files(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start(Guest("files", "busy", events=()))
    within = "prlimit --nofile=40:40 env"
    with polled(tmp_path, lab, within=within) as agent:
        line = wait_for_line(agent, "refused")
        (helper,) = helpers(tmp_path, COUNTING)
        wait_for(lambda: not counters_open(helper), 10, "nothing stays open")
        assert agent.errors() == []
    assert "LimitNOFILE" in line
    assert "own_events" in line
    assert samples(agent, guest, *COUNTERS) == []


def test_helper_is_not_allowed(lab: Lab, tmp_path: Path) -> None:
    """libvirt's counters go on, and the line names what to do."""
    restarted = lab.start(Guest("restarted", "paused"))
    lab.libvirtd.restart()
    bare = lab.start(Guest("bare", "paused", events=()))
    right = lab.start(Guest("right", "busy"))
    with polled(tmp_path, lab, privsep_helper="/bin/false") as agent:
        line = wait_for_line(agent, "own counters are not read")
        detached = wait_for_line(agent, "detached")
        wait_for_counted(agent, right, "libvirt", count=4)
        assert agent.errors() == []
    assert "privsep_helper" in line
    assert "hard reboot" in detached
    for guest in (restarted, bare):
        assert samples(agent, guest, *COUNTERS) == []


def test_instances_that_go(lab: Lab, tmp_path: Path) -> None:
    going = lab.start(Guest("going", "busy", events=()))
    staying = lab.start(Guest("staying", "busy", events=()))
    with polled(tmp_path, lab) as agent:
        for guest in (going, staying):
            wait_for_counted(agent, guest)
        lab.remove(going)
        wait_for_counted(agent, staying, after=time.monotonic())
        (helper,) = helpers(tmp_path, COUNTING)
        wait_for(
            lambda: counters_open(helper) == EVENTS * threads(lab, staying),
            20,
            "only the other's counters are open",
        )
        assert agent.errors() == []
    assert said(agent) == []
