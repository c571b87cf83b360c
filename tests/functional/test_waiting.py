# SPDX-License-Identifier: Apache-2.0
"""Waiting times by the real agent: guests that really wait for one CPU."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ceilometer_perf.host.processes import Processes
from ceilometer_perf.host.waits import RESOURCES, Waits
from ceilometer_perf.meters import SCHED_DELAY, SCHED_DELAY_RATIO
from tests.functional.agent import Agent
from tests.lab import Guest, Lab

REALTIME = """<cputune>
<vcpusched vcpus='0' scheduler='fifo' priority='1'/>
</cputune>"""
SECOND = 1e9


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        yield lab


@pytest.fixture(scope="module")
def rivals(lab: Lab) -> Iterator[list[Guest]]:
    """Two that never rest, on one CPU."""
    guests = lab.start_all(
        [Guest("rival-1", "spin", events=()), Guest("rival-2", "spin")]
    )
    one = min(os.sched_getaffinity(0))
    for guest in guests:
        for tid in threads(lab, guest):
            os.sched_setaffinity(tid, {one})
    yield guests
    for guest in guests:
        lab.remove(guest)


def threads(lab: Lab, guest: Guest) -> list[int]:
    tasks = Path(f"/proc/{lab.qemu_pid(guest)}/task")
    return [int(task.name) for task in tasks.iterdir()]


def accounts(lab: Lab, guest: Guest) -> tuple[float, float]:
    """The vCPU's ns on a CPU, and ns of waiting for one."""
    (told,) = (
        Path(f"/proc/{tid}/schedstat").read_text().split()
        for tid in threads(lab, guest)
        if Path(f"/proc/{tid}/comm").read_text().startswith("CPU 0/")
    )
    return int(told[0]), int(told[1])


def test_who_shares_a_cpu_waits_while_the_other_runs(
    lab: Lab, rivals: list[Guest], tmp_path: Path
) -> None:
    began, before = time.monotonic(), [accounts(lab, g) for g in rivals]
    with Agent(tmp_path / "agent", lab, meters=("perf.sched.*",)) as agent:
        samples = {
            (guest.name, meter.name): agent.wait_for_samples(
                3, resource_id=guest.uuid, counter_name=meter.name
            )
            for meter in (SCHED_DELAY_RATIO, SCHED_DELAY)
            for guest in rivals
        }
    after, took = [accounts(lab, g) for g in rivals], time.monotonic() - began
    for guest, old, new in zip(rivals, before, after, strict=True):
        # What does not rest either runs or waits.
        assert sum(new) - sum(old) == pytest.approx(took * SECOND, rel=0.1)
        delays = samples[guest.name, SCHED_DELAY.name]
        volumes = [each["counter_volume"] for each in delays]
        assert [old[1], *volumes, new[1]] == sorted([old[1], *volumes, new[1]])
        assert volumes[-1] > volumes[0]
        about = [each["resource_metadata"]["perf"] for each in delays]
        assert {each["source"] for each in about} == {"kernel"}
        assert len({each["since"] for each in about}) == 1
        shares = samples[guest.name, SCHED_DELAY_RATIO.name]
        mean = sum(s["counter_volume"] for s in shares) / len(shares)
        # The rival runs for about half of the time; others may, too.
        assert 0.25 < mean <= 1


def test_a_realtime_instance_is_read_as_well(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start(Guest("realtime", "idle", extra=(REALTIME,)))
    meters = ("perf.sched.*", "perf.sw.task_clock")
    with Agent(tmp_path / "agent", lab, meters=meters) as agent:
        agent.wait_for_samples(
            2, resource_id=guest.uuid, counter_name=SCHED_DELAY_RATIO.name
        )
        samples = agent.wait_for_samples(1, resource_id=guest.uuid)
    names = {sample["counter_name"] for sample in samples}
    assert names == {SCHED_DELAY.name, SCHED_DELAY_RATIO.name}


def test_the_pressure_of_a_real_cgroup(lab: Lab, rivals: list[Guest]) -> None:
    """As libvirt would make one; the lab's libvirtd has none to make."""
    waits = Waits()
    (root,) = (
        line.split()[1]
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[2] == "cgroup2"
    )
    machine = Path(root) / "machine" / "rival.libvirt-qemu"
    machine.mkdir(parents=True)
    processes = Processes(lab.run_dir / "qemu")
    process = processes.guest(rivals[0].domain_name, rivals[0].uuid)
    assert process is not None
    home = Path(f"/proc/{process.pid}/cgroup").read_text()
    (own,) = (ln[3:] for ln in home.splitlines() if ln.startswith("0::"))
    try:
        assert waits.pressure(process) == {}
        (machine / "cgroup.procs").write_text(str(process.pid))
        waits = Waits()
        assert waits.pressure(process).keys() == {*RESOURCES}
        assert all(0 <= n <= 100 for n in waits.pressure(process).values())
    finally:
        Path(f"{root}{own}", "cgroup.procs").write_text(str(process.pid))
        machine.rmdir()
        with contextlib.suppress(OSError):
            machine.parent.rmdir()
