# SPDX-License-Identifier: Apache-2.0
"""resctrl as a tree of files, of machines of all makes."""

import errno
import os
from pathlib import Path

import pytest

from ceilometer_perf.host import resctrl, watching
from ceilometer_perf.host.resctrl import (
    CORE_ENERGY,
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Resctrl,
)

ONE = "6f1c1d0e-6a4f-4f0a-9a52-0d0c3d0b7a01"
TWO = "6f1c1d0e-6a4f-4f0a-9a52-0d0c3d0b7a02"


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(
        tmp_path,
        info__L3_MON__mon_features="llc_occupancy\nmbm_total_bytes\n",
        info__L3_MON__num_rmids="176\n",
    )
    for group in (
        f"mon_groups/ceilometer-perf-{ONE}",
        "mon_groups/qemu-1-web-vcpus_0-1",
        f"qemu-2-db-vcpus_0/mon_groups/ceilometer-perf-{ONE}",
        f"qemu-2-db-vcpus_0/mon_groups/ceilometer-perf-{TWO}",
    ):
        (tmp_path / group).mkdir(parents=True)
    return tmp_path


def test_what_the_machine_has(root: Path) -> None:
    found = Resctrl(root)
    assert found.features() == (OCCUPANCY, TOTAL)
    assert found.rmids() == 176
    assert found.in_use() == 6  # two control groups, four in them


def test_ours_are_found_in_every_control_group(root: Path) -> None:
    ours = Resctrl(root).ours()
    assert set(ours) == {ONE, TWO}
    assert [group.parent.parent.name for group in ours[ONE]] == [
        root.name,
        "qemu-2-db-vcpus_0",
    ]


def test_not_mounted_is_nothing(tmp_path: Path) -> None:
    nothing = Resctrl(tmp_path / "gone")
    assert nothing.features() == ()
    assert nothing.rmids() is None
    assert nothing.in_use() == 0
    assert nothing.ours() == {}
    assert resctrl.count(tmp_path / "gone") is None
    assert resctrl.threads(tmp_path / "gone") == frozenset()


def test_counters_by_bank(tmp_path: Path) -> None:
    """Ids are decimal, and not consecutive."""
    for bank, number in (("00", 5), ("08", 7), ("65", 9)):
        write(
            tmp_path / "mon_data" / f"mon_L3_{bank}",
            llc_occupancy=f"{number}\n",
            mbm_total_bytes=f"{number}00\n",
        )
    found = resctrl.count(tmp_path)
    assert found is not None
    assert found.banks == {
        OCCUPANCY: {0: 5, 8: 7, 65: 9},
        TOTAL: {0: 500, 8: 700, 65: 900},
    }
    assert LOCAL not in found.banks


@pytest.mark.parametrize("answer", ["Unavailable", "Error", "Unassigned", ""])
def test_no_number_is_no_zero(tmp_path: Path, answer: str) -> None:
    write(tmp_path / "mon_data/mon_L3_00", llc_occupancy=f"{answer}\n")
    write(tmp_path / "mon_data/mon_L3_01", llc_occupancy="3\n")
    found = resctrl.count(tmp_path)
    assert found is not None
    assert found.banks == {OCCUPANCY: {0: None, 1: 3}}


@pytest.mark.parametrize(
    ("text", "joules"),
    [
        ("1043.25\n", 1043.25),
        ("0.000000\n", 0.0),
        ("3\n", 3),
        ("Unavailable\n", None),
        ("Error\n", None),
        ("1e3\n", None),
        ("-1.0\n", None),
        ("nan\n", None),
    ],
)
def test_energy_of_packages(
    tmp_path: Path, text: str, joules: float | None
) -> None:
    folder = tmp_path / "mon_data/mon_PERF_PKG_01"
    write(folder, core_energy=text, activity="2.5\n")
    found = resctrl.count(tmp_path)
    assert found is not None
    assert found.banks == {CORE_ENERGY: {1: joules}}


def test_monitors_of_another_kind_are_not_ours(tmp_path: Path) -> None:
    for name in "mon_L2_00", "mon_PERF_PKG_", "mon_PERF_00", "xmon_L3_00":
        write(tmp_path / "mon_data" / name, core_energy="3.0\n")
        write(tmp_path / "mon_data" / name, llc_occupancy="3\n")
    found = resctrl.count(tmp_path)
    assert found is not None
    assert found.banks == {}


def test_bandwidth_of_the_memory_itself(tmp_path: Path) -> None:
    """As Arm has it: the caches count no bytes."""
    write(
        tmp_path,
        info__L3_MON__mon_features="llc_occupancy\n",
        info__L3_MON__num_rmids="64\n",
        info__MB_MON__mon_features="mbm_total_bytes\n",
        info__MB_MON__num_rmids="32\n",
        mon_data__mon_L3_01__llc_occupancy="1048576\n",
        mon_data__mon_MB_00__mbm_total_bytes="6000000000\n",
        mon_data__mon_MB_01__mbm_total_bytes="6000000001\n",
    )
    found = resctrl.count(tmp_path)
    assert found is not None
    assert found.banks == {
        OCCUPANCY: {1: 1048576},
        TOTAL: {0: 6000000000, 1: 6000000001},
    }
    assert Resctrl(tmp_path).features() == (OCCUPANCY, TOTAL)
    assert Resctrl(tmp_path).rmids() == 32


def test_the_smallest_pool_of_rmids_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        info__L3_MON__num_rmids="256\n",
        info__PERF_PKG_MON__num_rmids="100\n",
    )
    assert Resctrl(tmp_path).rmids() == 100


@pytest.mark.parametrize(
    ("whole", "parts", "known"),
    [
        ((0, 0), ((5, 5), (5, 5)), (None, None)),
        ((9, 10), ((5, 5), (5, 5)), (9, 10)),
        ((5, 10), ((5, 5), (5, 5)), (5, 10)),
        ((4, 9), ((5, 5), (5, 5)), (None, None)),
        ((10, 12), ((5, 5), (5, 5)), (10, 12)),
        ((0, 0), (), (0, 0)),
    ],
)
def test_a_cache_is_no_less_than_its_parts(
    tmp_path: Path,
    whole: tuple[int, int],
    parts: tuple[tuple[int, int], ...],
    known: tuple[int | None, int | None],
) -> None:
    """As Linux has it if a node's first CPU is offline."""
    bank = tmp_path / "mon_data/mon_L3_00"
    for number, counts in enumerate(parts):
        _cache(bank / f"mon_sub_L3_{number:02}", *counts)
    _cache(bank, *whole)
    found = resctrl.count(tmp_path)
    assert found is not None
    assert (found.banks[OCCUPANCY][0], found.banks[TOTAL][0]) == known


def _cache(folder: Path, occupancy: int, total: int) -> None:
    write(
        folder,
        llc_occupancy=f"{occupancy}\n",
        mbm_total_bytes=f"{total}\n",
    )


@pytest.mark.parametrize(
    ("nodes", "cache", "knows", "split"),
    [
        (("0-27", "28-55"), "0-55", False, True),
        (("0-27", "28-55"), "0-55", True, False),
        (("0-27", "28-55"), "0-27", False, False),  # a cache each
        (("0-55",), "0-7", False, False),  # several in a node
        (("0-55", ""), "0-55", False, False),  # memory without CPUs
        ((), "0-55", False, False),
    ],
)
def test_nodes_that_share_a_cache(
    tmp_path: Path, nodes: tuple[str, ...], cache: str, knows: bool,
    split: bool,
) -> None:  # fmt: skip
    """Sub-NUMA clustering, and whether the kernel knows of it."""
    devices = tmp_path / "devices/system"
    for number, cpus in enumerate(nodes):
        write(devices / f"node/node{number}", cpulist=f"{cpus}\n")
    index = devices / "cpu/cpu0/cache/index3"
    write(index, shared_cpu_list=f"{cache}\n")
    root = tmp_path / "fs/resctrl"
    bank = root / "mon_data/mon_L3_00"
    bank.mkdir(parents=True)
    if knows:
        (bank / "mon_sub_L3_00").mkdir()
    assert Resctrl(root).is_split_unseen() is split


def test_rmids_are_of_the_smaller_pool(root: Path) -> None:
    write(
        root,
        info__PERF_PKG_MON__mon_features="core_energy\nactivity\n",
        info__PERF_PKG_MON__num_rmids="64\n",
    )
    found = Resctrl(root)
    assert found.rmids() == 64
    assert found.features() == (
        OCCUPANCY, TOTAL, "core_energy", "activity",
    )  # fmt: skip


def test_another_group_of_that_name(tmp_path: Path) -> None:
    group, new = tmp_path / "group", tmp_path / "new"
    group.mkdir()
    before = resctrl.count(group)
    new.mkdir()
    group.rmdir()
    new.rename(group)
    after = resctrl.count(group)
    assert before is not None
    assert after is not None
    assert before.identity != after.identity


# What root does


@pytest.fixture
def watched(root: Path, tmp_path: Path) -> watching.Watching:
    run, proc = tmp_path / "run", tmp_path / "proc"
    write(run, **{"web.pid": "7"})
    write(proc / "7", cmdline=f"qemu\0-name\0guest=web\0-uuid\0{ONE}\0-S\0")
    (proc / "7" / "task" / "7").mkdir(parents=True)
    write(root / "qemu-1-web", tasks="7\n")
    return watching.Watching(root, run, proc)


@pytest.mark.parametrize(
    "name", ["../run/web", "/etc/web", ".web", "a/../web", "a/web", "."]
)
def test_name_that_leaves_the_folder(
    watched: watching.Watching, name: str
) -> None:
    with pytest.raises(ValueError, match="not a domain's name"):
        watched.watch(name, ONE)


@pytest.mark.parametrize("uuid", ["..", f"../{ONE}", f"{ONE}/x", "", "web"])
def test_uuid_that_is_none(watched: watching.Watching, uuid: str) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        watched.watch("web", uuid)
    with pytest.raises(ValueError, match="badly formed"):
        watched.release(uuid)


def test_process_of_another_instance(watched: watching.Watching) -> None:
    with pytest.raises(ProcessLookupError):
        watched.watch("web", TWO)
    with pytest.raises(ProcessLookupError):
        watched.watch("other", ONE)


@pytest.mark.parametrize(
    "words",
    [
        ["-name", ONE, "-uuid", TWO],
        ["-uuid", TWO, ONE],
        [ONE, "-uuid"],
        ["-uuid", f"{ONE}x"],
        ["-smbios", f"-uuid {ONE}"],
        [],
    ],
)
def test_uuid_that_is_not_the_process_s_own(
    watched: watching.Watching, tmp_path: Path, words: list[str]
) -> None:
    """Names and other arguments are for the guest's owner to choose."""
    command = "\0".join(["qemu", *words, ""])
    (tmp_path / "proc" / "7" / "cmdline").write_text(command)
    with pytest.raises(ProcessLookupError, match="is not running"):
        watched.watch("web", ONE)


def test_no_name_is_no_guest(watched: watching.Watching) -> None:
    with pytest.raises(ProcessLookupError):
        watched.watch("", ONE)


def test_uuid_in_capitals_is_the_same(
    watched: watching.Watching, root: Path
) -> None:
    (root / "qemu-1-web" / "mon_groups").mkdir()
    watched.watch("web", ONE.upper())
    assert (
        root / "qemu-1-web/mon_groups" / f"ceilometer-perf-{ONE}" / "tasks"
    ).exists()


def test_process_that_ends_meanwhile(
    watched: watching.Watching, tmp_path: Path
) -> None:
    (tmp_path / "proc" / "7" / "task" / "7").rmdir()
    (tmp_path / "proc" / "7" / "task").rmdir()
    with pytest.raises(ProcessLookupError, match=r"\] the instance is not"):
        watched.watch("web", ONE)


def test_arguments_need_not_be_text(
    watched: watching.Watching, root: Path, tmp_path: Path
) -> None:
    (root / "qemu-1-web" / "mon_groups").mkdir()
    command = b"qemu\0-name\0\xff\0-uuid\0" + ONE.encode() + b"\0"
    (tmp_path / "proc" / "7" / "cmdline").write_bytes(command)
    watched.watch("web", ONE)


def test_group_that_is_gone_is_released(
    watched: watching.Watching, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has removed it since it was listed."""
    gone, there = root / "gone", root / f"mon_groups/ceilometer-perf-{ONE}"
    monkeypatch.setattr(Resctrl, "ours", lambda _: {ONE: (gone, there)})
    watched.release(ONE)
    assert not there.exists()


class Threads:
    """Those of a process that starts another each time they are looked at.

    As many times as ``more`` says.
    """

    def __init__(self, tasks: Path, more: int) -> None:
        self._tasks = tasks
        self._more = more
        self._read = resctrl.threads
        self.written: list[int] = []

    def of(self, group: Path) -> frozenset[int]:
        if self._more and group.name.startswith(resctrl.PREFIX):
            self._more -= 1
            (self._tasks / str(100 + self._more)).mkdir()
        return self._read(group)

    def write(self, path: Path, text: str) -> int:
        with path.open("a") as file:
            self.written.append(int(text))
            return file.write(text)


@pytest.mark.parametrize(
    ("more", "inside"), [(0, [7]), (1, [7, 100]), (9, [7, 108, 107])]
)
def test_threads_that_start_meanwhile_are_put_in(
    watched: watching.Watching,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: int,
    inside: list[int],
) -> None:
    """In three passes; those of later ones follow by themselves."""
    (root / "mon_groups" / "qemu-1-web-vcpus_0-1").rmdir()
    threads = Threads(tmp_path / "proc" / "7" / "task", more)
    monkeypatch.setattr(resctrl, "threads", threads.of)
    monkeypatch.setattr(
        Path, "write_text", lambda path, text: threads.write(path, text)
    )
    (root / "qemu-1-web" / "tasks").unlink()
    watched.watch("web", ONE)
    assert threads.written == inside


def test_thread_that_ends_meanwhile_costs_no_other(
    watched: watching.Watching,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = []

    def write_text(path: Path, text: str) -> int:
        if text == "7\n":
            raise ProcessLookupError
        written.append(text)
        return len(text)

    (tmp_path / "proc" / "7" / "task" / "8").mkdir()
    (root / "qemu-1-web" / "tasks").unlink()
    monkeypatch.setattr(Path, "write_text", write_text)
    watched.watch("web", ONE)
    assert written == ["8\n"]


def test_threads_are_put_in_where_each_is(
    watched: watching.Watching, root: Path, tmp_path: Path
) -> None:
    for tid in (8, 9):
        (tmp_path / "proc" / "7" / "task" / str(tid)).mkdir()
    for control in ("qemu-1-web", "qemu-3-web"):
        (root / control / "mon_groups").mkdir(parents=True)
    (root / "qemu-1-web" / "tasks").write_text("7\n1\n")
    (root / "qemu-3-web" / "tasks").write_text("8\n")
    (root / "tasks").write_text("9\n")
    watched.watch("web", ONE)
    for control, tid in (("qemu-1-web", 7), ("qemu-3-web", 8), ("", 9)):
        group = root / control / "mon_groups" / f"ceilometer-perf-{ONE}"
        assert (group / "tasks").read_text() == f"{tid}\n"


def test_link_in_place_of_the_pid_file(
    watched: watching.Watching, tmp_path: Path
) -> None:
    (tmp_path / "run" / "evil.pid").symlink_to(tmp_path / "run" / "web.pid")
    with pytest.raises(OSError, match="symbolic"):
        watched.watch("evil", ONE)


def test_threads_that_others_monitor_are_theirs(
    watched: watching.Watching, root: Path
) -> None:
    write(root / "mon_groups/qemu-1-web-vcpus_0-1", tasks="7\n")
    (root / "qemu-1-web" / "tasks").write_text("")
    before = sorted(root.rglob("*"))
    with pytest.raises(FileExistsError, match="qemu-1-web-vcpus_0-1"):
        watched.watch("web", ONE)
    assert sorted(root.rglob("*")) == before


def test_group_is_in_the_control_group_of_the_threads(
    watched: watching.Watching, root: Path
) -> None:
    group = root / "qemu-1-web/mon_groups" / f"ceilometer-perf-{ONE}"
    group.parent.mkdir()
    watched.watch("web", ONE)
    assert (group / "tasks").read_text() == "7\n"


def test_releases_its_own_only(watched: watching.Watching, root: Path) -> None:
    watched.release(ONE)
    names = {group.name for group in root.glob("**/mon_groups/*")}
    assert names == {"qemu-1-web-vcpus_0-1", f"ceilometer-perf-{TWO}"}
    watched.release(ONE)


def test_not_mounted(watched: watching.Watching, tmp_path: Path) -> None:
    gone = watching.Watching(
        tmp_path / "gone", tmp_path / "run", tmp_path / "proc"
    )
    with pytest.raises(FileNotFoundError, match=r"\] resctrl is not mounted$"):
        gone.watch("web", ONE)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_pid_file_that_somebody_else_wrote(
    watched: watching.Watching, tmp_path: Path
) -> None:
    os.chown(tmp_path / "run" / "web.pid", 65534, 65534)
    with pytest.raises(PermissionError) as refused:
        watched.watch("web", ONE)
    assert refused.value.args == (errno.EPERM, "not libvirt's")


@pytest.mark.parametrize(
    "text", ["9" * 21, "9" * 5000, "\u0663", "\udcff", ""]
)
def test_garbage_is_no_number(tmp_path: Path, text: str) -> None:
    """Nor is it an error, which would cost all instances their samples."""
    bank = tmp_path / "mon_data" / "mon_L3_00"
    bank.mkdir(parents=True)
    data = text.encode(errors="surrogateescape")
    (bank / OCCUPANCY).write_bytes(data)
    found = resctrl.count(tmp_path)
    assert found is not None
    assert found.banks == {OCCUPANCY: {0: None}}
    (tmp_path / "tasks").write_bytes(b"1\n" + data + b"\n2\n")
    assert resctrl.threads(tmp_path) == {1, 2}
