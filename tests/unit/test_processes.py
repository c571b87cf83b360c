# SPDX-License-Identifier: Apache-2.0
"""QEMU's processes, read from a made-up /proc."""

import os
import shutil
from pathlib import Path

import pytest

from ceilometer_perf.host.processes import Process, Processes, any_runs, read

TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Host:
    """Folders as libvirt and the kernel lay them out."""

    def __init__(self, root: Path) -> None:
        self.run, self.proc = root / "run", root / "proc"
        self.run.mkdir()
        self.processes = Processes(self.run, self.proc)

    def start(
        self, name: str, pid: int, *, started: int = 500, utime: int = 0,
        command: str = "qemu-system-x86", uuid: str | None = None,
    ) -> None:  # fmt: skip
        """``uuid``: by default as in ``instance-UUID``."""
        (self.run / f"{name}.pid").write_text(f"{pid}\n")
        folder = self.proc / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stat").write_text(
            f"{pid} ({command}) S 1 {pid} {pid} 0 -1 4194560 1 2 3 4 "
            f"{utime} 7 0 0 20 0 5 0 {started} 1000 200 18446744073709551615\n"
        )

        if name == "driver":
            command = "libvirtd"
        (folder / "comm").write_text(f"{command}\n")
        uuid = uuid or name.removeprefix("instance-")
        (folder / "cmdline").write_text(f"{command}\0-uuid\0{uuid}\0-S\0")

    def process(self, name: str) -> Process | None:
        """That of an ``instance-UUID``, or of a UUID."""
        return self.processes.guest(name, name.removeprefix("instance-"))

    def run_guest(self, name: str) -> None:
        """A process with two threads, and the end of the one before."""
        before = self.process(name)
        running = sum(1 for _ in self.run.iterdir())
        pid = before.pid + 2 if before else 1000 + 100 * running
        if before:
            shutil.rmtree(self.proc / str(before.pid))
        self.start(name, pid, started=pid)
        for tid in (pid, pid + 1):
            (self.proc / str(pid) / "task" / str(tid)).mkdir(parents=True)

    def tids(self, name: str) -> list[int]:
        """Its threads; none if it does not run."""
        process = self.process(name)
        return sorted(self.processes.threads(process)) if process else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    "command", ["qemu-system-x86", "a b", ") S 1 2 (", "qemu (1) x"]
)
def test_reads_identity_threads_and_cpu_time(host: Host, command: str) -> None:
    host.start("a", 42, utime=93, command=command)
    process = host.process("a")
    assert process is not None
    assert process.identity == (42, 500)
    assert process.threads == 5
    assert process.cpu_ns == (93 + 7) * TICK


def test_threads(host: Host) -> None:
    host.start("a", 42)
    process = host.process("a")
    assert process is not None
    for tid in (42, 43):
        (host.proc / "42" / "task" / str(tid)).mkdir(parents=True)
    assert host.processes.threads(process) == {42, 43}
    shutil.rmtree(host.proc / "42")
    assert host.processes.threads(process) == frozenset()


def test_follows_a_reboot(host: Host) -> None:
    host.start("a", 42)
    assert host.process("a")
    host.start("a", 43, started=900)
    (host.proc / "42" / "stat").unlink()
    process = host.process("a")
    assert process is not None
    assert process.identity == (43, 900)


def test_is_not_taken_in_by_a_pid_used_again(host: Host) -> None:
    host.start("a", 42, started=500)
    assert host.process("a")
    host.start("other", 42, started=800)
    host.start("a", 43, started=900)
    process = host.process("a")
    assert process is not None
    assert process.identity == (43, 900)


def test_processes_of_others_may_be_hidden(host: Host) -> None:
    host.start("a", 42)
    assert host.processes.are_hidden()
    host.start("driver", 1)
    assert not host.processes.are_hidden()


def test_a_stranger_is_not_the_instance(host: Host) -> None:
    """As the number in the file is, in another PID namespace."""
    host.start("instance-web", 42)
    assert host.processes.guest("instance-web", "db") is None
    (host.proc / "42/cmdline").write_text("sh\0-c\0-uuid web\0web\0")
    assert host.process("instance-web") is None
    (host.proc / "42/cmdline").unlink()  # hidepid
    assert host.process("instance-web") is None


@pytest.mark.parametrize(
    ("command", "seen"),
    [("libvirtd", True), ("virtqemud", True), ("python3", False)],
)
def test_a_stranger_is_not_the_driver(
    host: Host, command: str, seen: bool
) -> None:
    """Its age would tell that all counters are detached."""
    host.start("driver", 42)
    (host.proc / "42/comm").write_text(f"{command}\n")
    assert (host.processes.driver() is not None) is seen


@pytest.mark.parametrize("content", ["", "x", "99999", "-1", "\0"])
def test_what_cannot_be_read_is_none(host: Host, content: str) -> None:
    (host.run / "a.pid").write_text(content)
    assert host.process("a") is None
    assert host.process("no such domain") is None


@pytest.mark.parametrize(
    "stat", ["", "42 (x", "42 (x) S 1", "(x) " + "y " * 40]
)
def test_a_stat_that_makes_no_sense_is_none(host: Host, stat: str) -> None:
    host.start("a", 42)
    (host.proc / "42" / "stat").write_text(stat)
    assert host.process("a") is None


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("cpu  1 2 3 4 5 60 700 8000 9 10\ncpu0 1 2 3 4\n", 8760),
        ("cpu  1 2 3 4 5 6 7\n", 13),  # before there was steal
        ("cpu  1 2 3 4 5 x 7 8 9\n", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_what_was_stolen(host: Host, text: str | None, ticks: int) -> None:
    host.start("a", 42)
    if text is not None:
        (host.proc / "stat").write_text(text)
    assert host.processes.stolen_ns() == ticks * TICK


def test_boot_time_is_the_pid_file_s(host: Host) -> None:
    host.start("a", 42)
    os.utime(host.run / "a.pid", (1_000_000_000, 1_000_000_000))
    booted = host.processes.booted_at("a")
    assert booted is not None
    assert booted.isoformat() == "2001-09-09T01:46:40+00:00"
    assert host.processes.booted_at("no such domain") is None


def test_forgets(host: Host) -> None:
    host.start("a", 42)
    host.start("b", 43)
    host.process("a")
    host.process("b")
    host.processes.forget_all_but({"b"})
    assert set(host.processes._found) == {"b"}


def test_forgets_while_another_thread_finds_one(host: Host) -> None:
    class Names(set[str]):
        """Asked about the first name, another thread finds a guest."""

        def __contains__(self, name: object) -> bool:
            host.process("new")
            return super().__contains__(name)

    for pid, name in enumerate(("a", "b", "new"), start=42):
        host.start(name, pid)
    host.process("a")
    host.process("b")
    host.processes.forget_all_but(Names({"b", "new"}))
    assert set(host.processes._found) == {"b", "new"}


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("/usr/bin/python3\0/usr/bin/agent\0--debug\0", True),
        ("/usr/bin/agent\0", True),
        ("agent: master process [/usr/bin/agent]\0", True),
        ("vi\0-R\0/usr/bin/agent\0", False),
        ("", False),
    ],
)
def test_a_command_that_runs(tmp_path: Path, command: str, runs: bool) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "8").mkdir()
    (tmp_path / "8/cmdline").write_text(command)
    assert any_runs("agent", tmp_path) is runs


def test_the_real_proc() -> None:
    """This process is its own guest."""
    process = read(Path("/proc"), os.getpid())
    assert process is not None
    assert process.threads >= 1
    assert abs(process.cpu_ns / 1e9 - sum(os.times()[:2])) < 0.1
