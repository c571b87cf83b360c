# SPDX-License-Identifier: Apache-2.0
"""The lab's resctrl does what the kernel's would."""

import contextlib
import dataclasses
import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from tests.functional.agent import wait_for
from tests.functional.machine import (
    QUICK,
    Busy,
    Machine,
    assign,
    tasks,
    total,
    unprivileged,
)
from tests.lab import Guest, Hardware, Lab, LabError, locks
from tests.lab.resctrl import AMD, ARM, INTEL, mount


def fails(number: int, call: Callable[[], object]) -> bool:
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        call()
    return caught.value.errno == number


# What it looks like


@pytest.mark.parametrize("hardware", [INTEL, AMD, ARM])
def test_says_what_the_machine_has(
    machine: Machine, hardware: Hardware
) -> None:
    machine.change(hardware)
    info = machine.root / "info" / "L3_MON"
    features = (info / "mon_features").read_text().split()
    assert tuple(features) == hardware.features
    assert int((info / "num_rmids").read_text()) == hardware.num_rmids
    group = machine.monitor("one")
    domains = {folder.name for folder in (group / "mon_data").iterdir()}
    assert domains == {f"mon_L3_{each:02}" for each in hardware.domains}
    for folder in (group / "mon_data").iterdir():
        assert {file.name for file in folder.iterdir()} == set(features)


def test_says_what_cores_use(machine: Machine, busy: Busy) -> None:
    hardware = dataclasses.replace(QUICK, packages=(0, 1), domains=(0, 4))
    machine.change(hardware)
    info = machine.root / "info" / "PERF_PKG_MON"
    assert (info / "mon_features").read_text().split() == [
        "core_energy", "activity",
    ]  # fmt: skip
    group = machine.monitor("one")
    assign(group, *busy.tids())
    folders = sorted((group / "mon_data").glob("mon_PERF_PKG_*"))
    assert [folder.name for folder in folders] == [
        "mon_PERF_PKG_00", "mon_PERF_PKG_01",
    ]  # fmt: skip

    def joules() -> float:
        texts = [(folder / "core_energy").read_text() for folder in folders]
        assert all(re.fullmatch(r"\d+\.\d{6}\n?", text) for text in texts)
        return sum(map(float, texts))

    before, began = joules(), busy.seconds()
    wait_for(lambda: busy.seconds() > began + 0.5, 30, "half a second of CPU")
    at_least = (busy.seconds() - began) * hardware.watts
    used = joules() - before
    at_most = (busy.seconds() - began) * hardware.watts
    assert used >= 0.8 * at_least
    assert used <= 1.2 * at_most


def test_modes_are_the_kernels(machine: Machine) -> None:
    group = machine.monitor("one")
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in group.rglob("*")
    }
    assert modes["tasks"] == 0o644
    assert modes["mon_data"] == modes["mon_L3_00"] == 0o755
    assert modes["llc_occupancy"] == modes["mbm_total_bytes"] == 0o444


def test_everybody_reads_and_root_writes(machine: Machine) -> None:
    group = machine.monitor("one")
    read = unprivileged(f"cat {group}/mon_data/*/* {group}/tasks")
    assert (read.returncode, read.stdout) == (0, "0\n0\n0\n")
    assert unprivileged(f"echo $$ > {group}/tasks").returncode
    assert unprivileged(f"mkdir {machine.root}/mon_groups/two").returncode
    assert unprivileged(f"rmdir {group}").returncode
    assert group.exists()


def test_nothing_but_groups_can_be_made_or_removed(machine: Machine) -> None:
    group = machine.monitor("one")
    assert fails(errno.EEXIST, group.mkdir)
    assert fails(errno.EPERM, (group / "two").mkdir)
    assert fails(errno.EPERM, (machine.root / "info").rmdir)
    assert fails(errno.EPERM, (group / "mon_data").rmdir)


# Tasks


def test_thread_moves_alone(machine: Machine, busy: Busy) -> None:
    group = machine.monitor("one")
    first, second = busy.tids()
    assign(group, second)
    assert tasks(group) == [second]
    # A control group has those that are monitored in it, too.
    assert {first, second} <= set(tasks(machine.root))
    (machine.root / "control").mkdir()
    assign(machine.root / "control", second)
    assert tasks(group) == []
    assert first in tasks(machine.root)
    assert second not in tasks(machine.root)


def test_later_thread_is_in_its_creators_group(
    machine: Machine, busy: Busy
) -> None:
    group = machine.monitor("one")
    assign(group, *busy.tids())
    busy.start_thread()
    assert tasks(group) == busy.tids()
    assert len(busy.tids()) == 3


def test_thread_that_is_gone_or_no_thread(
    machine: Machine, busy: Busy
) -> None:
    group = machine.monitor("one")
    busy.end()
    assert fails(errno.ESRCH, lambda: assign(group, busy.pid))
    assert fails(errno.EINVAL, lambda: (group / "tasks").write_text("x"))


def test_threads_that_end_vanish(machine: Machine, busy: Busy) -> None:
    group = machine.monitor("one")
    assign(group, *busy.tids())
    busy.end()
    time.sleep(0.05)
    assert tasks(group) == []


def test_removed_group_gives_its_threads_back(
    machine: Machine, busy: Busy
) -> None:
    (machine.root / "control").mkdir()
    group = machine.monitor("one", "control")
    assign(machine.root / "control", *busy.tids())
    assign(group, busy.pid)
    group.rmdir()
    assert tasks(machine.root / "control") == busy.tids()
    (machine.root / "control").rmdir()
    assert set(busy.tids()) <= set(tasks(machine.root))


def test_monitoring_group_takes_from_its_control_group_only(
    machine: Machine, busy: Busy
) -> None:
    (machine.root / "control").mkdir()
    inside, outside = machine.monitor("one", "control"), machine.monitor("two")
    assert fails(errno.EINVAL, lambda: assign(inside, busy.pid))
    assign(machine.root / "control", busy.pid)
    assign(inside, busy.pid)
    assert fails(errno.EINVAL, lambda: assign(outside, busy.pid))


# Counters


def test_bandwidth_is_that_of_the_threads_assigned(
    machine: Machine, busy: Busy
) -> None:
    group, other = machine.monitor("one"), machine.monitor("two")
    spinning = busy.tids()[1]
    assign(group, spinning)
    task = Path(f"/proc/{busy.pid}/task/{spinning}/schedstat")

    def used() -> int:
        return int(task.read_text().split()[0])

    a, before, b = used(), total(group, "mbm_total_bytes"), used()
    wait_for(lambda: used() > b + 300_000_000, 60, "0.3 s of CPU time")
    c, after, d = used(), total(group, "mbm_total_bytes"), used()
    assert 0.9 * (c - b) <= after - before <= 1.1 * (d - a)
    local = total(group, "mbm_local_bytes")
    most = total(group, "mbm_total_bytes")
    share = QUICK.local_share
    assert 0.95 * share * after <= local <= 1.05 * share * most
    assert total(other, "mbm_total_bytes") == 0


def test_counters_go_on_when_a_thread_leaves(
    machine: Machine, busy: Busy
) -> None:
    group, other = machine.monitor("one"), machine.monitor("two")
    assign(group, *busy.tids())
    time.sleep(0.2)
    assign(other, *busy.tids())
    stays = total(group, "mbm_total_bytes")
    assert stays > 0
    time.sleep(0.2)
    assert total(group, "mbm_total_bytes") == stays
    assert total(other, "mbm_total_bytes") > 0


def test_new_group_counts_from_nothing(machine: Machine, busy: Busy) -> None:
    assign(machine.monitor("one"), *busy.tids())
    time.sleep(0.2)
    group = machine.root / "mon_groups" / "one"
    assert total(group, "mbm_total_bytes") > 0
    group.rmdir()
    machine.monitor("one")
    assert total(group, "mbm_total_bytes") == 0


def test_counters_wrap(machine: Machine, busy: Busy) -> None:
    machine.change(dataclasses.replace(QUICK, counter_bits=24))
    group = machine.monitor("one")
    assign(group, *busy.tids())
    time.sleep(0.2)
    assert 0 < total(group, "mbm_total_bytes") < 1 << 24


def test_occupancy_is_a_level(machine: Machine, busy: Busy) -> None:
    machine.change(dataclasses.replace(QUICK, working_set=1 << 20))
    group = machine.monitor("one")
    assign(group, *busy.tids())
    levels = []
    for _ in range(10):
        time.sleep(0.1)
        levels.append(total(group, "llc_occupancy"))
    assert levels[-1] > 0
    # One thread spins, and holds no more than its share of a CPU; what it
    # moves to and fro is much more by now.
    assert max(levels) <= 1.1 * (1 << 20)
    assert total(group, "mbm_total_bytes") > 10 << 20


def test_occupancy_fits_into_the_cache(machine: Machine, busy: Busy) -> None:
    machine.change(dataclasses.replace(QUICK, l3_bytes=50_000))
    group = machine.monitor("one")
    assign(group, *busy.tids())
    time.sleep(1)
    assert 0 < total(group, "llc_occupancy") <= 50_000


def test_control_group_counts_for_those_in_it(
    machine: Machine, busy: Busy
) -> None:
    (machine.root / "control").mkdir()
    group = machine.monitor("one", "control")
    assign(machine.root / "control", *busy.tids())
    assign(group, *busy.tids())
    time.sleep(0.2)
    inside = total(group, "mbm_total_bytes")
    assert inside > 0
    assert total(machine.root / "control", "mbm_total_bytes") >= inside


def test_answers_that_are_no_numbers(machine: Machine) -> None:
    answers = {"mon_groups/one/*/llc_occupancy": "Unavailable",
               "*/mbm_local_bytes": "Error"}  # fmt: skip
    machine.change(dataclasses.replace(QUICK, answers=answers))
    data = machine.monitor("one") / "mon_data" / "mon_L3_00"
    assert (data / "llc_occupancy").read_text() == "Unavailable\n"
    assert (data / "mbm_local_bytes").read_text() == "Error\n"
    assert (data / "mbm_total_bytes").read_text() == "0\n"


# RMIDs


def test_rmids_run_out(machine: Machine) -> None:
    machine.change(dataclasses.replace(QUICK, num_rmids=4))
    groups = [machine.monitor(name) for name in ("one", "two")]
    (machine.root / "control").mkdir()
    spare = machine.root / "mon_groups" / "spare"
    assert fails(errno.ENOSPC, spare.mkdir)
    groups[0].rmdir()  # clean: nobody was in it
    spare.mkdir()


def test_freed_rmid_is_dirty_for_a_while(machine: Machine, busy: Busy) -> None:
    some = dataclasses.replace(
        QUICK, num_rmids=2, threshold=0x8000, settling=0.5
    )
    machine.change(some)
    group = machine.monitor("one")
    assign(group, *busy.tids())
    wait_for(
        lambda: total(group, "llc_occupancy") > 4 * some.threshold, 60,
        "it holds some of the cache",
    )  # fmt: skip
    group.rmdir()
    assert fails(errno.EBUSY, group.mkdir)

    def made() -> bool:
        with contextlib.suppress(OSError):
            group.mkdir()
        return group.exists()

    wait_for(made, 60, "it may be given out again")
    # What is below the threshold is the next group's.
    assert 0 < total(group, "llc_occupancy") <= some.threshold


# Mounted and unmounted


def test_ends_cleanly(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.root.is_mount()
    mount.end(tmp_path)
    assert not machine.root.is_mount()
    mount.end(tmp_path)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_ends_whatever_became_of_its_server(
    tmp_path: Path, signum: int
) -> None:
    machine = Machine(tmp_path)
    pid = locks.holder(tmp_path / mount.SERVER_PID)
    assert pid is not None
    os.kill(pid, signum)
    mount.end(tmp_path)
    assert not machine.root.is_mount()


def test_ends_while_somebody_is_in_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with subprocess.Popen(["sleep", "60"], cwd=machine.root) as guest:
        mount.end(tmp_path)
        assert not machine.root.is_mount()
        guest.kill()


# In the lab


MONITORS = """
<cputune>
  <cachetune vcpus='0-1'><monitor level='3' vcpus='0-1'/></cachetune>
  <memorytune vcpus='0-1'><monitor vcpus='0-1'/></memorytune>
</cputune>
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(resctrl=dataclasses.replace(INTEL, settling=0.1)) as lab:
        yield lab


def test_libvirt_monitors_a_guest(lab: Lab) -> None:
    guest = Guest("rdt", "spin", vcpus=2, events=(), extra=(MONITORS,))
    lab.start(guest)
    time.sleep(1)
    groups = libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    groups |= libvirt.VIR_DOMAIN_STATS_MEMORY
    ((_, stats),) = lab.connection.domainListGetStats(
        [lab.domain(guest)], groups
    )
    cache, memory = "cpu.cache.monitor", "memory.bandwidth.monitor"
    assert stats[f"{cache}.count"] == stats[f"{memory}.count"] == 1
    banks = range(stats[f"{cache}.0.bank.count"])
    ids = {stats[f"{cache}.0.bank.{bank}.id"] for bank in banks}
    assert ids == set(INTEL.domains)
    assert sum(stats[f"{cache}.0.bank.{bank}.bytes"] for bank in banks)
    traffic = [stats[f"{memory}.0.node.{n}.bytes.total"] for n in banks]
    assert sum(traffic)
    (group,) = (lab.resctrl_path / "mon_groups").iterdir()
    assert len(tasks(group)) == 2
    lab.remove(guest)
    assert not group.exists()


def test_libvirt_takes_cache_8_for_octal(lab: Lab) -> None:
    """Its bulk read fails for all guests; see `Hardware.domains`."""
    guest = Guest("octal", "paused", vcpus=2, events=(), extra=(MONITORS,))
    lab.start(guest)

    def read() -> list[object]:
        answer: list[object] = lab.connection.domainListGetStats(
            [lab.domain(guest)], libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
        )
        return answer

    assert read()
    lab.change_resctrl(domains=(0, 8))
    with pytest.raises(libvirt.libvirtError):
        read()
    lab.change_resctrl(domains=INTEL.domains)
    lab.remove(guest)


def test_unprivileged_user_reads_it_outside_of_the_lab(lab: Lab) -> None:
    path = lab.resctrl_path / "mon_data" / "mon_L3_01" / "llc_occupancy"
    assert unprivileged(f"cat {path}").stdout == "0\n"


def test_lab_says_that_it_is_not_real(lab: Lab) -> None:
    assert any("resctrl" in line for line in lab.emulates)
    assert lab.flavor == "lab.emulated-resctrl"


def test_machine_changes_while_it_runs(lab: Lab) -> None:
    lab.change_resctrl(num_rmids=1)
    group = lab.resctrl_path / "mon_groups" / "too-many"
    assert fails(errno.ENOSPC, group.mkdir)
    lab.change_resctrl(num_rmids=INTEL.num_rmids)
    group.mkdir()
    group.rmdir()


def test_lab_is_found_again_with_its_machine(lab: Lab) -> None:
    assert Lab.at(lab.folder).resctrl_path == lab.resctrl_path
    with pytest.raises(LabError, match="no resctrl"):
        Lab().change_resctrl(num_rmids=1)


def test_lab_takes_it_along_when_it_ends() -> None:
    with Lab(resctrl=Hardware()) as other:
        lab_folder = other.folder
        assert (other.resctrl_path / "tasks").exists()
        assert not Path("/sys/fs/resctrl/mon_groups").exists() or (
            # this host has a resctrl of its own
            Path("/sys/fs/resctrl").stat().st_dev
            != other.resctrl_path.stat().st_dev
        )
    assert not lab_folder.exists()
    assert str(lab_folder) not in Path("/proc/mounts").read_text()


def test_next_lab_clears_what_a_killed_keeper_left() -> None:
    killed = Lab(resctrl=Hardware())
    killed.up()
    server = locks.holder(killed.folder / mount.SERVER_PID)
    keeper = locks.holder(killed.folder / "keeper.pid")
    assert server is not None
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    while locks.holder(killed.folder / "keeper.pid") is not None:
        time.sleep(0.01)
    with Lab():
        assert not killed.folder.exists()
        assert str(killed.folder) not in Path("/proc/mounts").read_text()
    killed.down()
