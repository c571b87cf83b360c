# SPDX-License-Identifier: Apache-2.0
"""How a lab is found again, and how it is cleared away.

A running keeper holds a lock on its PID file: a lab whose lock is free is
stale.
"""

import contextlib
import os
import shutil
import stat
from pathlib import Path

from tests.lab import locks, processes
from tests.lab.resctrl import mount

PREFIX = "ceilometer-perf-lab-"
PLACE = Path("/tmp")
KEEPER_PID = "keeper.pid"


def is_lab(folder: Path) -> bool:
    """Whether a folder is a lab of ours, running or stale."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    # Anybody may make a folder in /tmp; only our own is ours to remove.
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return own and (folder / KEEPER_PID).is_file()


def claim(folder: Path) -> None:
    """Make this process the folder's keeper for as long as it lives."""
    locks.claim(folder / KEEPER_PID)


def keeper_pid(folder: Path) -> int | None:
    """The PID of the lab's keeper, None if it has none (any more)."""
    return locks.holder(folder / KEEPER_PID)


def clear(folder: Path) -> None:
    """Kill what runs in a lab and remove its folder."""
    # Without this sub-folder it never came to have processes.
    with contextlib.suppress(FileNotFoundError):
        processes.kill_all(processes.mark_of(folder / "run"))
    mount.end(folder)
    shutil.rmtree(folder, ignore_errors=True)


def clear_stale(folder: Path | None = None) -> None:
    """Clear labs whose keeper was killed, the given one among them."""
    candidates = [*PLACE.glob(f"{PREFIX}*"), *([folder] if folder else [])]
    for candidate in candidates:
        if is_lab(candidate) and keeper_pid(candidate) is None:
            clear(candidate)
