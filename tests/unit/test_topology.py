# SPDX-License-Identifier: Apache-2.0
"""Which CPUs share what, from a made-up /sys and libvirt; and real threads."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.host.caches import Caches
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.topology import Topology


@pytest.fixture
def sys_dir(tmp_path: Path) -> Path:
    """Four CPUs: two cores with two threads, an L3 cache each."""
    for cpu in range(4):
        folder = tmp_path / f"cpu{cpu}"
        core = cpu // 2 * 2
        (folder / "topology").mkdir(parents=True)
        (folder / "topology/thread_siblings_list").write_text(
            f"{core}-{core + 1}\n"
        )
        for index, level in enumerate((1, 1, 2, 3)):
            cache = folder / f"cache/index{index}"
            cache.mkdir(parents=True)
            (cache / "level").write_text(f"{level}\n")
            (cache / "id").write_text(f"{7 * (cpu // 2)}\n")
    (tmp_path / "cpufreq").mkdir()
    (tmp_path / "cpu").mkdir()
    return tmp_path


def test_siblings_and_caches(sys_dir: Path) -> None:
    topology = Topology(sys_dir)
    assert topology.siblings == {
        0: {1}, 1: {0}, 2: {3}, 3: {2},
    }  # fmt: skip
    assert topology.l3 == {0: 0, 1: 0, 2: 7, 3: 7}
    assert topology.domains(frozenset({1, 2, 9})) == {0, 7}


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "cpu0").mkdir()
    topology = Topology(tmp_path)
    assert (topology.siblings, topology.l3) == ({}, {})
    assert topology.domains(frozenset({0})) == frozenset()


def test_caches_without_an_id(sys_dir: Path) -> None:
    (sys_dir / "cpu0/cache/index3/id").unlink()
    assert Topology(sys_dir).l3 == {1: 0, 2: 7, 3: 7}


def test_cpus_that_are_turned_on_later(sys_dir: Path) -> None:
    """As Nova does it when an instance gets them."""
    files = sorted(p for p in sys_dir.rglob("*") if p.is_file())
    texts = {path: path.read_text() for path in files}
    for cpu in (1, 2, 3):
        shutil.rmtree(sys_dir / f"cpu{cpu}/topology")
        shutil.rmtree(sys_dir / f"cpu{cpu}/cache")
    siblings = sys_dir / "cpu0/topology/thread_siblings_list"
    siblings.write_text("0\n")
    topology = Topology(sys_dir)
    kept = topology.siblings
    assert topology.domains(frozenset({0})) == {0}
    assert (topology.siblings, topology.l3) == ({}, {0: 0})
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert topology.domains(frozenset({3})) == {7}
    assert kept == {0: {1}, 1: {0}, 2: {3}, 3: {2}}
    assert topology.l3 == {0: 0, 1: 0, 2: 7, 3: 7}
    # What is turned off again is not forgotten.
    shutil.rmtree(sys_dir / "cpu1")
    siblings.write_text("0\n")
    assert topology.domains(frozenset({8})) == frozenset()
    assert kept[0] == {1}
    assert topology.domains(frozenset({1})) == {0}


def test_files_are_read_when_a_cpu_is_new(
    sys_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = Topology(sys_dir)
    monkeypatch.setattr(topology, "_sys", sys_dir / "gone")
    read: list[bool] = []
    monkeypatch.setattr(topology, "_read", lambda: read.append(True))
    for _ in range(3):
        topology.domains(frozenset({0, 3}))
    assert not read
    for _ in range(3):
        topology.domains(frozenset({3, 9}))
    assert read == [True]


def test_where_threads_are() -> None:
    topology = Topology()
    tid = threading.get_native_id()
    assert topology.ran_on([tid]) <= os.sched_getaffinity(0)
    assert len(topology.ran_on([tid])) == 1
    assert topology.allowed([tid]) == os.sched_getaffinity(0)


def test_equal_sets_of_cpus_are_one_object() -> None:
    """Of hundreds of instances and dozens of cycles, 16 KiB each."""
    tid = threading.get_native_id()
    topology = Topology()
    assert topology.allowed([tid]) is topology.allowed([tid, tid])


def test_threads_that_have_ended(tmp_path: Path) -> None:
    topology = Topology(proc=tmp_path)
    assert topology.ran_on([1, 2]) == frozenset()
    assert Topology().allowed([2**22 + 1]) == frozenset()
    (tmp_path / "5").mkdir()
    fields = " ".join(str(n) for n in range(3, 53))
    (tmp_path / "5/stat").write_text(f"5 (CPU 0/K) M) {fields}")
    assert topology.ran_on([5]) == {39}


class Libvirt(Connection):
    """A connection to one that declares the caches of ``on``."""

    def __init__(self, *on: int) -> None:
        self.on = on
        self.asked = 0
        self.begin()

    def begin(self) -> None:
        self.session = Session(self, (9, 0, 0))

    def call(self, question: Callable[[Session], Any]) -> Any:
        return question(self.session)

    def getCapabilities(self) -> str:  # noqa: N802
        self.asked += 1
        banks = "".join(
            f"<bank id='{each}' level='3' size='32' unit='MiB'/>"
            for each in self.on
        )
        return (
            f"<capabilities><host><cache>{banks}</cache></host></capabilities>"
        )


def test_caches_of_cpus_that_are_turned_on_later() -> None:
    libvirt = Libvirt(0)
    caches, size = Caches(libvirt), 32 << 20
    assert caches.l3(frozenset()) == {0: size}
    libvirt.on = (0, 1)
    assert caches.l3(frozenset({0})) == {0: size}
    assert libvirt.asked == 1
    assert caches.l3(frozenset({0, 1})) == {0: size, 1: size}
    # Of a host that declares less than it has.
    for _ in range(3):
        assert caches.l3(frozenset({0, 7})) == {0: size, 1: size}
    assert libvirt.asked == 3
    # What was there is there, whatever is on now.
    libvirt.on = (0, 2)
    libvirt.begin()
    assert caches.l3(frozenset({0})) == dict.fromkeys((0, 1, 2), size)
