# SPDX-License-Identifier: Apache-2.0
"""Which CPUs share what, from a made-up /sys; and real threads."""

import os
import threading
from pathlib import Path

import pytest

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
    assert topology.domains([1, 2, 9]) == {0, 7}


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "cpu0").mkdir()
    topology = Topology(tmp_path)
    assert (topology.siblings, topology.l3) == ({}, {})
    assert topology.domains([0]) == frozenset()


def test_caches_without_an_id(sys_dir: Path) -> None:
    (sys_dir / "cpu0/cache/index3/id").unlink()
    assert Topology(sys_dir).l3 == {1: 0, 2: 7, 3: 7}


def test_where_threads_are() -> None:
    topology = Topology()
    tid = threading.get_native_id()
    assert topology.ran_on([tid]) <= os.sched_getaffinity(0)
    assert len(topology.ran_on([tid])) == 1
    assert topology.allowed([tid]) == os.sched_getaffinity(0)


def test_threads_that_have_ended(tmp_path: Path) -> None:
    topology = Topology(proc=tmp_path)
    assert topology.ran_on([1, 2]) == frozenset()
    assert Topology().allowed([2**22 + 1]) == frozenset()
    (tmp_path / "5").mkdir()
    fields = " ".join(str(n) for n in range(3, 53))
    (tmp_path / "5/stat").write_text(f"5 (CPU 0/K) M) {fields}")
    assert topology.ran_on([5]) == {39}
