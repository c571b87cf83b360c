# SPDX-License-Identifier: Apache-2.0
"""What the threads of this host do, from /proc."""

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_PROCESSOR = 39 - 3  # of proc(5)'s fields, after the command


@dataclass(frozen=True)
class Use:
    """What a thread has used so far, and which CPU it ran on last."""

    cpu_ns: int
    cpu: int


def use(tid: int) -> Use | None:
    """What a thread has used; None if it is gone."""
    folder = PROC / str(tid) / "task" / str(tid)
    try:
        schedstat = (folder / "schedstat").read_text().split()
        stat = (folder / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Use(int(schedstat[0]), int(stat[_PROCESSOR]))


def process(tid: int) -> int | None:
    """The process that a thread belongs to; None if it is gone."""
    try:
        status = (PROC / str(tid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.partition("Tgid:")[2].split()[0])


def threads(pid: int) -> list[int]:
    """All threads of a process; none if it is gone."""
    try:
        return _numbers(PROC / str(pid) / "task")
    except (FileNotFoundError, ProcessLookupError):
        return []


def everything() -> list[int]:
    """All threads of the host."""
    return [tid for pid in _numbers(PROC) for tid in threads(pid)]


def _numbers(folder: Path) -> list[int]:
    names = (entry.name for entry in folder.iterdir())
    return [int(name) for name in names if name.isdecimal()]
