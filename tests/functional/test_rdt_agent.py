# SPDX-License-Identifier: Apache-2.0
"""L3 occupancy and bandwidth through the real agent, by each source."""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.host import resctrl
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.meters import CACHE, CORE_ENERGY, CORE_POWER
from ceilometer_perf.reading import SHORTEST
from tests.functional.agent import Agent, wait_for
from tests.functional.helper import HELPER, helpers
from tests.functional.machine import cpu_time
from tests.lab import MONITORS, Guest, Hardware, Lab

HARDWARE = Hardware(domains=(0, 4), settling=0.1)
METERS = (
    "cpu_l3_cache*", "memory.bandwidth.*", "perf.energy", "perf.power",
    "perf.sw.task_clock",
)  # fmt: skip
NAMES = {meter.name for meter in CACHE}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True, resctrl=HARDWARE) as lab:
        yield lab


def agent(folder: Path, lab: Lab, **options: Any) -> Agent:
    """Polls the four meters, with a helper of its own."""
    lines = [
        f"resctrl_path = {lab.resctrl_path}",
        f"privsep_helper = {HELPER} --config-file {folder}/ceilometer.conf",
        *(f"{name} = {value}" for name, value in options.items()),
    ]
    return Agent(folder, lab, meters=METERS, perf="\n".join(lines))


def said(agent: Agent) -> list[str]:
    """Our own warnings."""
    return [line for line in agent.lines() if "ceilometer_perf." in line]


def wait_for_line(agent: Agent, words: str) -> str:
    def found() -> str:
        return next((line for line in said(agent) if words in line), "")

    return wait_for(found, 20, f"a line about {words}")


def wait_for_more(agent: Agent, guest: Guest) -> None:
    """Two more cycles in which all four meters come."""

    def seen(name: str, more_than: int = 0) -> int:
        found = agent.wait_for_samples(
            more_than, resource_id=guest.uuid, counter_name=name
        )
        return len(found)

    before = {name: seen(name) for name in NAMES}
    for name, count in before.items():
        seen(name, count + 2)


def ours(lab: Lab) -> set[str]:
    """The instances that have groups."""
    return set(Resctrl(lab.resctrl_path).ours())


SOURCES = {
    "perf": Guest("by-perf", "busy", events=("cmt", "mbmt", "mbml")),
    "libvirt": Guest("by-libvirt", "busy", events=(), extra=(MONITORS,)),
    "resctrl": Guest("by-resctrl", "busy", events=()),
}


def test_each_instance_by_the_source_that_it_has(
    lab: Lab, tmp_path: Path
) -> None:
    lab.start_all(list(SOURCES.values()))
    with agent(tmp_path, lab) as polled:
        for guest in SOURCES.values():
            polled.wait_for_samples(3 * len(NAMES), resource_id=guest.uuid)
        samples = polled.samples()
        assert polled.errors() == []
        assert said(polled) == []
    for source, guest in SOURCES.items():
        seen = [
            s
            for s in samples
            if s["resource_id"] == guest.uuid and s["counter_name"] in NAMES
        ]
        assert {s["counter_name"] for s in seen} == NAMES
        for sample in seen:
            about = sample["resource_metadata"]["perf"]
            assert about["source"] == source
            assert ("banks" in about) == (source != "perf")
            assert sample["counter_volume"] >= 0
        busy = [s for s in seen if s["counter_name"].endswith("total")]
        assert any(s["counter_volume"] > 0 for s in busy)
    # Nobody else has a group of ours.
    assert ours(lab) == {SOURCES["resctrl"].uuid}


def test_energy_where_the_cores_tell_it(lab: Lab, tmp_path: Path) -> None:
    """Emulated: each second of CPU time uses as much as its power."""
    hardware = lab.change_resctrl(packages=(0, 1))
    guest = lab.start(Guest("warm", "spin", events=()))
    with agent(tmp_path, lab) as polled:
        for meter in CORE_ENERGY, CORE_POWER:
            polled.wait_for_samples(4, counter_name=meter.name)
        samples = polled.samples()
    used = cpu_time(lab.qemu_pid(guest)) / 1e9
    energy = [s for s in samples if s["counter_name"] == CORE_ENERGY.name]
    power = [s for s in samples if s["counter_name"] == CORE_POWER.name]
    assert {s["counter_unit"] for s in energy} == {"J"}
    assert {s["counter_type"] for s in energy} == {"cumulative"}
    volumes = [s["counter_volume"] for s in energy]
    # From the first reading on, and no more than the guest can have used.
    assert volumes[0] == 0
    assert volumes == sorted(volumes)
    assert 0 < volumes[-1] <= used * hardware.watts
    about = energy[-1]["resource_metadata"]["perf"]
    assert about["source"] == "resctrl"
    assert about["banks"].keys() == {"0", "1"}
    assert sum(about["banks"].values()) == pytest.approx(volumes[-1])
    # Power is the growth of energy between the same two readings; one that
    # follows another at once, as at an agent's start, is none of them.
    readings = energy[:1]
    for each in energy[1:]:
        if each["monotonic_time"] - readings[-1]["monotonic_time"] >= SHORTEST:
            readings.append(each)
    growth = {
        after["timestamp"]: (
            after["counter_volume"] - before["counter_volume"],
            after["monotonic_time"] - before["monotonic_time"],
        )
        for before, after in itertools.pairwise(readings)
    }
    power = [s for s in power if s["timestamp"] in growth]
    assert len(power) > 1
    for sample in power:
        joules, passed = growth[sample["timestamp"]]
        assert sample["counter_volume"] == pytest.approx(
            joules / passed, rel=0.001
        )


@pytest.mark.parametrize("only", ["libvirt", "resctrl"])
def test_one_source_only(lab: Lab, tmp_path: Path, only: str) -> None:
    both = {name: SOURCES[name] for name in ("libvirt", "resctrl")}
    lab.start_all(list(both.values()))
    with agent(tmp_path, lab, rdt_source=only) as polled:
        polled.wait_for_samples(2, counter_name="cpu_l3_cache")
        found = {
            (s["resource_id"], s["resource_metadata"]["perf"]["source"])
            for s in polled.samples()
            if s["counter_name"] in NAMES
        }
        (line,) = said(polled)
    assert found == {(both[only].uuid, only)}
    if only == "libvirt":
        assert "rdt_source" in line
        assert ours(lab) == set()
    else:
        # A thread is in one group, and libvirt's was there before.
        assert "another tool" in line


def test_resctrl_is_unmounted_and_mounted_again(
    lab: Lab, tmp_path: Path
) -> None:
    guest = lab.start(Guest("busy-1", "busy", events=("task_clock",)))
    with agent(tmp_path, lab) as polled:
        wait_for_more(polled, guest)
        # What is seen of a mount point when nothing is mounted there.
        subprocess.run(
            ["mount", "-t", "tmpfs", "none", str(lab.resctrl_path)],
            check=True,
        )
        try:
            line = wait_for_line(polled, "host_lacks")
            before = rdt_samples(polled)
            clocks = polled.wait_for_samples(
                0, counter_name="perf.sw.task_clock"
            )
            polled.wait_for_samples(
                len(clocks) + 3, counter_name="perf.sw.task_clock"
            )
            assert rdt_samples(polled) == before
        finally:
            subprocess.run(["umount", str(lab.resctrl_path)], check=True)
        wait_for_more(polled, guest)
        assert polled.errors() == []
    # Not on a host whose CPUs could not monitor.
    assert ("mount -t resctrl" in line) is resctrl.cpus_can_monitor()


def rdt_samples(agent: Agent) -> int:
    return sum(s["counter_name"] in NAMES for s in agent.samples())


def test_a_group_that_somebody_removes_is_made_again(
    lab: Lab, tmp_path: Path
) -> None:
    guest = lab.start(Guest("busy-1", "busy", events=()))
    with agent(tmp_path, lab) as polled:
        wait_for_more(polled, guest)
        (path,) = Resctrl(lab.resctrl_path).ours()[guest.uuid]
        path.rmdir()
        wait_for(path.exists, 10, "the group is there again")
        wait_for_more(polled, guest)
        bandwidth = [
            s["counter_volume"]
            for s in polled.samples()
            if s["counter_name"] == "memory.bandwidth.total"
        ]
    # A CPU's time stands in for traffic, of which it has 1 ns each ns: no
    # rate was made up from two groups.
    assert max(bandwidth) < 1.5e9


def test_no_group_outlives_its_instance_and_its_agent(
    lab: Lab, tmp_path: Path
) -> None:
    """Killed at any point: nothing is left that the next one can't see."""
    guests = [Guest(f"paused-{n}", "paused", events=()) for n in range(6)]
    lab.start_all(guests)
    for round_, guest in enumerate(guests[:-1]):
        folder = tmp_path / str(round_)
        with agent(folder, lab) as polled:
            wait_for(lambda: ours(lab), 30, "groups are made")
            time.sleep(0.15 * round_)
            polled.process.kill()
            polled.process.wait()
        lab.remove(guest)
    left = {guests[-1].uuid}
    assert ours(lab) - left, "there is something to remove"
    with agent(tmp_path / "last", lab) as polled:
        wait_for(lambda: ours(lab) == left, 30, "orphans are removed")
        wait_for_more(polled, guests[-1])
    # A helper whose agent was killed goes with it.
    folders = tmp_path.glob("[0-9]")
    wait_for(
        lambda: not any(helpers(folder) for folder in folders),
        10,
        "no helper is left",
    )
    assert ours(lab) == left


def test_the_helper_is_killed(lab: Lab, tmp_path: Path) -> None:
    first = lab.start(Guest("busy-1", "busy", events=()))
    with agent(tmp_path, lab) as polled:
        wait_for_more(polled, first)
        for pid in helpers(tmp_path):
            os.kill(pid, signal.SIGKILL)
        wait_for_more(polled, first)  # reading needs none
        second = lab.start(Guest("busy-2", "busy", events=()))
        wait_for_more(polled, second)
        assert helpers(tmp_path)


def test_no_helper_is_no_other_meter_s_trouble(
    lab: Lab, tmp_path: Path
) -> None:
    lab.start_all(
        [Guest(f"paused-{n}", "paused", events=("task_clock",)) for n in "12"]
    )
    with agent(tmp_path, lab, privsep_helper="/bin/false") as polled:
        line = wait_for_line(polled, "helper")
        polled.wait_for_samples(6, counter_name="perf.sw.task_clock")
        assert rdt_samples(polled) == 0
        assert len(said(polled)) == 1
    assert "privsep_helper" in line
    assert "every instance" in line


def test_more_instances_than_rmids(lab: Lab, tmp_path: Path) -> None:
    lab.change_resctrl(num_rmids=3)
    guests = [Guest(f"paused-{n}", "paused", events=()) for n in range(4)]
    lab.start_all(guests)
    with agent(tmp_path, lab) as polled:
        wait_for(lambda: len(ours(lab)) == 2, 30, "all RMIDs are in use")
        had = ours(lab)
        for guest in guests:
            if guest.uuid in had:
                wait_for_more(polled, guest)
        assert ours(lab) == had
        lines = said(polled)
        seen = {
            s["resource_id"]
            for s in polled.samples()
            if s["counter_name"] in NAMES
        }
    assert seen == had == set(sorted(g.uuid for g in guests)[:2])
    assert len(lines) == 2
    assert all("host_lacks: 3 of 3 RMIDs" in line for line in lines)


def test_hot_plugged_vcpus_are_counted(lab: Lab, tmp_path: Path) -> None:
    vcpus = "<vcpu placement='static' current='1'>2</vcpu>"
    guest = lab.start(Guest("busy-1", "busy", events=(), extra=(vcpus,)))
    with agent(tmp_path, lab) as polled:
        wait_for_more(polled, guest)
        lab.domain(guest).setVcpus(2)
        wait_for_more(polled, guest)
    tasks = Path(f"/proc/{lab.qemu_pid(guest)}/task").iterdir()
    (path,) = Resctrl(lab.resctrl_path).ours()[guest.uuid]
    inside = set((path / "tasks").read_text().split())
    assert {task.name for task in tasks} <= inside
    names = {Path(f"/proc/{tid}/comm").read_text().strip() for tid in inside}
    assert {"CPU 0/KVM", "CPU 1/KVM"} <= names


def test_a_stuck_guest_holds_up_no_monitor_for_long(
    lab: Lab, tmp_path: Path
) -> None:
    """libvirt waits for a QEMU that hangs, where it reads cache monitors."""
    guests = [
        Guest(f"busy-{n}", "busy", events=("task_clock",), extra=(MONITORS,))
        for n in "12"
    ]
    lab.start_all(guests)
    well, stuck = guests
    with agent(tmp_path, lab, libvirt_timeout=1) as polled:
        wait_for_more(polled, well)
        os.kill(lab.qemu_pid(stuck), signal.SIGSTOP)
        line = wait_for_line(polled, "stale")
        wait_for_more(polled, well)
        os.kill(lab.qemu_pid(stuck), signal.SIGCONT)
        wait_for_more(polled, stuck)
        assert polled.errors() == []
    assert "hung QEMU" in line
