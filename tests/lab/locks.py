# SPDX-License-Identifier: Apache-2.0
"""PID files that can't be out of date.

A process holds a lock on its PID file. The kernel drops the lock however the
process ends.
"""

import fcntl
import os
from pathlib import Path


def claim(path: Path) -> int:
    """Write this process's PID file, for as long as it lives."""
    # Locked before it has its name: nobody may see it unlocked.
    unnamed = path.with_name(f".{path.name}")
    lock = os.open(unnamed, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, f"{os.getpid()}\n".encode())
    unnamed.rename(path)
    return lock


def holder(path: Path) -> int | None:
    """The PID of the process that holds it, None if none does (any more)."""
    try:
        with path.open() as pid_file:
            try:
                fcntl.flock(pid_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(pid_file.read())
    except FileNotFoundError:
        pass
    return None
