# SPDX-License-Identifier: Apache-2.0
"""Waiting times, from a made-up /proc and made-up cgroups."""

import dataclasses
import shutil
import time
from pathlib import Path

import pytest

from ceilometer_perf.counters.monitor import Report
from ceilometer_perf.host.waits import Waits
from ceilometer_perf.meters import PRESSURES, SCHED_DELAY, SCHED_DELAY_RATIO
from ceilometer_perf.neighbours.waiting import Waiting
from ceilometer_perf.reading import Published
from tests.unit.fakes import guest, report
from tests.unit.test_processes import Host

SCOPE = "/machine.slice/machine-qemu\\x2d1\\x2dinstance\\x2d1.scope"
PSI = (
    "some avg10=9.00 avg60={} avg300=9.00 total=9\nfull avg10=1.00 avg60=1.00"
)
SECOND = 1_000_000_000


class Waiter(Host):
    """One guest called ``a``, looked at once a second."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cgroups = root / "cgroups"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/mounts").write_text(
            f"tmpfs /sys tmpfs rw 0 0\nnone {self.cgroups} cgroup2 rw 0 0\n"
        )
        self.now = 0.0
        self.guest = guest("a")
        self.start("a", 42, uuid="uuid")
        self.waiting = Waiting(Waits(self.proc), self.processes)

    def thread(
        self, tid: int, waited: int, *, ran: int = 5, name: str = "CPU 0/KVM",
        pid: int = 42,
    ) -> None:  # fmt: skip
        folder = self.proc / str(pid) / "task" / str(tid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "schedstat").write_text(f"{ran} {waited} 3\n")

    def end(self, tid: int) -> None:
        shutil.rmtree(self.proc / "42" / "task" / str(tid))

    def cgroup(self, line: str, machine: str, **some: str) -> None:
        """The process's line, and the pressure of a machine's cgroup."""
        (self.proc / "42" / "cgroup").write_text(f"1:name=x:/y\n{line}\n")
        folder = Path(f"{self.cgroups}{machine}")
        folder.mkdir(parents=True, exist_ok=True)
        for resource, share in some.items():
            text = PSI.format(share)
            (folder / f"{resource}.pressure").write_text(text)

    def report(self) -> Report:
        seen = report(1.0, {"uuid": {}})
        return dataclasses.replace(
            seen,
            reading=dataclasses.replace(
                seen.reading, guests={"uuid": self.guest}
            ),
        )

    def look(self, after: float = 1.0) -> Published | None:
        self.now += after
        return self.waiting.look(self.report()).published.get("uuid")

    def values(self, after: float = 1.0) -> dict[str, float]:
        found = self.look(after)
        return dict(found.values) if found else {}

    def delay(self) -> float | None:
        return self.values().get(SCHED_DELAY.key)

    def ratio(self, after: float = 1.0) -> float | None:
        return self.values(after).get(SCHED_DELAY_RATIO.key)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Waiter:
    host = Waiter(tmp_path)
    monkeypatch.setattr(time, "monotonic", lambda: host.now)
    return host


def test_the_vcpus_delays_are_added_up(host: Waiter) -> None:
    host.thread(42, 1000, name="qemu-system-x86")
    host.thread(43, 30, name="CPU 0/KVM")
    host.thread(44, 7, name="CPU 1/TCG")
    host.thread(45, 1000, name="IO mon_iothread")
    host.thread(46, 1000, name="my CPU 0/KVM")
    assert host.delay() == 37


def test_the_share_is_of_all_vcpus_time(host: Waiter) -> None:
    host.thread(43, 0)
    host.thread(44, 0)
    assert host.ratio() is None
    host.thread(43, SECOND)
    assert host.ratio(after=2) == 0.25
    assert host.ratio() == 0


def test_a_wait_that_began_earlier_is_no_more_than_all(host: Waiter) -> None:
    host.thread(43, 0)
    host.look()
    host.thread(43, 9 * SECOND)
    assert host.ratio() == 1


def test_two_looks_in_no_time_share_one_share(host: Waiter) -> None:
    host.thread(43, 0)
    host.look()
    host.thread(43, SECOND // 2)
    assert host.ratio() == 0.5
    host.thread(43, SECOND)
    assert host.ratio(after=0.4) == 0.5
    assert host.ratio(after=0.6) == 0.5


def test_vcpus_that_come_and_go_never_let_it_fall(host: Waiter) -> None:
    host.thread(43, 100)
    host.thread(44, 10)
    since = host.look()
    host.end(44)
    assert host.delay() == 110
    host.thread(45, 5)
    assert host.delay() == 115
    # The number of the one that ended is another's now.
    host.thread(44, 3)
    last = host.look()
    assert since is not None
    assert last is not None
    assert last.values[SCHED_DELAY.key] == 118
    assert last.metadata["since"] == since.metadata["since"]


def test_only_vcpus_seen_twice_are_in_the_share(host: Waiter) -> None:
    host.thread(43, 0)
    host.look()
    host.thread(43, SECOND // 2)
    host.thread(44, 9 * SECOND)
    assert host.ratio() == 0.5
    host.end(43)
    host.end(44)
    host.thread(45, 0)
    assert host.ratio() is None


def test_a_vcpu_s_thread_that_has_just_begun(host: Waiter) -> None:
    """It has its parent's name until it gives itself its own."""
    host.thread(43, 100)
    host.thread(44, 10, name="qemu-system-x86")
    host.thread(45, 10, name="qemu-system-x86")
    assert host.delay() == 100
    host.thread(44, 10)
    assert host.delay() == 110
    # Of what has another name for longer nobody asks again.
    assert host.waiting._waits._threads == {
        (42, 500): {43: True, 44: True, 45: False}
    }


def test_a_look_that_failed_counts_nothing_twice(host: Waiter) -> None:
    host.thread(43, 100)
    assert host.delay() == 100
    (host.proc / "42/task/43/schedstat").unlink()
    assert host.delay() is None
    host.thread(43, 101)
    assert host.delay() == 101


def test_another_process_begins_again(host: Waiter) -> None:
    host.thread(43, 100)
    before = host.look()
    shutil.rmtree(host.proc / "42")
    host.start("a", 50, started=900, uuid="uuid")
    host.thread(51, 3, pid=50)
    after = host.look()
    assert before is not None
    assert after is not None
    assert after.values == {SCHED_DELAY.key: 3}
    assert after.metadata["since"] > before.metadata["since"]


def test_a_kernel_that_does_not_account_has_no_number(host: Waiter) -> None:
    host.thread(43, 0, ran=0)
    assert host.look() is None
    (host.proc / "42/task/43/schedstat").write_text("")
    assert host.look() is None


def test_who_is_stopped_or_unseen_has_no_number(host: Waiter) -> None:
    host.thread(43, 100)
    host.guest = guest("a", id=-1)
    assert host.look() is None
    host.guest = guest("b")
    assert host.look() is None


def test_realtime_instances_are_read(host: Waiter) -> None:
    host.guest = guest("a", realtime=True, slice="half")
    host.thread(43, 100)
    found = host.look()
    assert found is not None
    assert found.metadata["slice"] == "half"
    assert found.metadata["source"] == "kernel"


@pytest.mark.parametrize(
    ("line", "machine"),
    [
        (f"0::{SCOPE}/libvirt/emulator", SCOPE),
        (f"0::{SCOPE}/emulator", SCOPE),
        (f"0::{SCOPE}", SCOPE),
        (
            "0::/machine/a.libvirt-qemu/libvirt/vcpu0",
            "/machine/a.libvirt-qemu",
        ),
    ],
)
def test_the_machine_s_pressure(host: Waiter, line: str, machine: str) -> None:
    host.cgroup(line, machine, cpu="1.50", memory="0.00", io="99.00")
    assert host.values() == {
        PRESSURES["cpu"].key: 1.5,
        PRESSURES["memory"].key: 0.0,
        PRESSURES["io"].key: 99.0,
    }


@pytest.mark.parametrize(
    "line",
    [
        "0::/system.slice/libvirtd.service",
        "0::/",
        f"0::/../..{SCOPE}",
        f"1:memory:{SCOPE}",
        f"0::{SCOPE}x/emulator",
    ],
)
def test_another_s_pressure_is_not_published(host: Waiter, line: str) -> None:
    host.cgroup(line, line.rpartition(":")[2], cpu="1.50")
    assert host.look() is None


def test_resources_that_the_kernel_lacks_are_left_out(host: Waiter) -> None:
    host.cgroup(f"0::{SCOPE}", SCOPE, cpu="1.50", io="nonsense")
    assert host.values() == {PRESSURES["cpu"].key: 1.5}


def test_what_is_gone_is_forgotten(host: Waiter) -> None:
    host.thread(43, 100)
    host.look()
    host.guest = guest("a", id=-1)
    host.look()
    waits = host.waiting._waits
    assert (waits._threads, waits._machines, host.waiting._lives) == (
        {}, {}, {},
    )  # fmt: skip


def test_without_cgroups_of_version_2(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.start("a", 42)
    process = host.process("a")
    assert process is not None
    assert Waits(host.proc).pressure(process) == {}
