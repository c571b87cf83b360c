# SPDX-License-Identifier: Apache-2.0
"""The lab's resctrl without a lab around it, and processes to put there."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests import interrupts
from tests.functional.agent import wait_for
from tests.interrupts import FUNCTION_CALLS
from tests.lab import Guest, Hardware, Lab
from tests.lab.resctrl import mount

#: Spins; starts another thread that spins for each line that it reads.
BUSY = """
import sys, threading
def spin():
    while True: pass
while True:
    threading.Thread(target=spin, daemon=True).start()
    print(flush=True)
    sys.stdin.readline() or sys.exit()
"""
QUICK = Hardware(settling=0.1)


def open_to_all(folder: Path) -> None:
    """Let others in; pytest's own folders are for nobody but root."""
    for each in (folder, *folder.parents[:3]):
        # Nothing is taken away: with --basetemp one of them can be /tmp.
        each.chmod(each.stat().st_mode & 0o7777 | 0o055)


class Machine:
    """A resctrl without a lab around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / mount.FOLDER
        self.hardware = QUICK
        open_to_all(folder)
        mount.start(folder, self.hardware)

    def change(self, hardware: Hardware) -> None:
        self.hardware = hardware
        mount.save(self.folder, hardware)

    def monitor(self, name: str, control: str = "") -> Path:
        group = self.root / control / "mon_groups" / name
        group.mkdir()
        return group


class Busy:
    """A process that spins."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", BUSY, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        assert self._process.stdout
        self._process.stdout.readline()

    def start_thread(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def tids(self) -> list[int]:
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sorted(int(task.name) for task in tasks)

    def seconds(self) -> float:
        """CPU time."""
        return cpu_time(self.pid) / 1e9

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def passing_for_qemu(uuid: str) -> Iterator[Busy]:
    """A process that has the command line of this instance's QEMU."""
    process = Busy("-uuid", uuid)
    yield process
    process.end()


def assign(group: Path, *tids: int) -> None:
    for tid in tids:
        (group / "tasks").write_text(f"{tid}\n")


def tasks(group: Path) -> list[int]:
    return [int(tid) for tid in (group / "tasks").read_text().split()]


def total(group: Path, feature: str) -> int:
    """Of all L3 caches."""
    files = (group / "mon_data").glob(f"mon_L3_*/{feature}")
    return sum(int(file.read_text()) for file in files)


def cpu_time(pid: int) -> int:
    """Of a process's threads that live, in ns."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def has_used(lab: Lab, guest: Guest, seconds: float) -> None:
    """Wait until a guest has used so much CPU time since it was started."""
    pid = lab.qemu_pid(guest)
    wait_for(
        lambda: cpu_time(pid) >= seconds * 1e9,
        120,
        f"{seconds} s of CPU time of {guest.name}",
    )


READINGS = 100


def call_interrupts(cpus: Sequence[int], read: Callable[[], object]) -> float:
    """Function call interrupts on these CPUs, for one of many readings."""
    before = _calls(cpus)
    for _ in range(READINGS):
        read()
    return (_calls(cpus) - before) / READINGS


def shows_calls() -> bool:
    """Whether the kernel counts function call interrupts."""
    return _calls(sorted(os.sched_getaffinity(0))) > 0


def _calls(cpus: Sequence[int]) -> int:
    return sum(interrupts.of(cpu).get(FUNCTION_CALLS, 0) for cpu in cpus)


def real_time(thread: int, priority: int) -> bool:
    """Have nobody else on its CPU, if we may; 0 is for an end of that."""
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    try:
        os.sched_setscheduler(thread, policy, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def unprivileged(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         "sh", "-c", script],
        capture_output=True,
        text=True,
    )  # fmt: skip
