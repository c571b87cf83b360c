# SPDX-License-Identifier: Apache-2.0
"""Guests that have one CPU of the host, or that take it from another one."""

import contextlib
import os
from pathlib import Path

#: A nice value that takes more than a machine that is busy anyway does.
GREED = -10


def pin(pid: int, cpu: int, nice: int = 0) -> None:
    """Have all threads of a process on one CPU."""
    process = Path(f"/proc/{pid}")
    # Where sessions are scheduled as groups, only the group's value counts.
    with contextlib.suppress(OSError):
        (process / "autogroup").write_text(str(nice))
    for task in (process / "task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {cpu})
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
