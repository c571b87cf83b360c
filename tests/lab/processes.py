# SPDX-License-Identifier: Apache-2.0
"""Which processes belong to a lab, and how they end.

A process is the lab's if what it sees as /run/libvirt is the lab's own
folder. That needs no list that could be out of date, survives the death of
whoever started the process, and cannot hit anybody else's process, because
nobody else has that folder there.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.errors import LabError

LIBVIRT_RUN = "/run/libvirt"

# Device and inode of a lab's run folder.
Mark = tuple[int, int]


def mark_of(run_dir: Path) -> Mark:
    """The mark by which a lab's processes are known."""
    # lstat: a link to the host's own folder must not claim its processes.
    status = run_dir.lstat()
    return status.st_dev, status.st_ino


def belongs(pid: int, mark: Mark) -> bool:
    """Whether a process is the lab's; what has died is nobody's."""
    try:
        status = Path(f"/proc/{pid}/root{LIBVIRT_RUN}").stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == mark


def members(mark: Mark) -> Iterator[int]:
    """The lab's processes, the caller's own excepted."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            pid = int(entry.name)
            if pid != os.getpid() and belongs(pid, mark):
                yield pid


def send(pid: int, signum: int, mark: Mark) -> bool:
    """Signal a process of the lab; False if it is not, or no longer, one."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Asked after the process is held, so its PID can't be another's now.
        if not belongs(pid, mark):
            return False
        signal.pidfd_send_signal(process, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


def wait_gone(pid: int, mark: Mark, seconds: float) -> bool:
    """Whether a process of the lab ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while belongs(pid, mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def kill_all(mark: Mark, seconds: float = 20) -> None:
    """Kill all of a lab's processes, those being born meanwhile too."""
    deadline = time.monotonic() + seconds
    quiet_rounds = 0
    while quiet_rounds < 3:
        found = list(members(mark))
        for pid in found:
            send(pid, signal.SIGKILL, mark)
        quiet_rounds = 0 if found else quiet_rounds + 1
        if time.monotonic() > deadline:
            raise LabError(f"these lab processes do not die: {found}")
        time.sleep(0.02)
