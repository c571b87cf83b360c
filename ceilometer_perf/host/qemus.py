# SPDX-License-Identifier: Apache-2.0
"""Whose QEMU a process is, as the privileged helper makes sure of it.

The caller is not trusted, as the agent may have been compromised. An instance
is the QEMU process in libvirt's PID file, if its command line has the
instance's UUID.
"""

import contextlib
import errno
import itertools
import os
import uuid
from pathlib import Path

from ceilometer_perf import files

_PID_BYTES = 32  # more than any PID file of libvirt's has


class Qemus:
    """The QEMU processes of libvirt's guests."""

    def __init__(self, run: Path, proc: Path = Path("/proc")) -> None:
        """``run``: where libvirt's PID files are."""
        self._run = run
        self._proc = proc

    def pid(self, name: str, instance: str) -> int:
        """Of the instance (a UUID) whose domain has this name.

        :raises OSError: ESRCH when it is not running, EPERM when the PID
            file is not libvirt's.
        :raises ValueError: this is not a domain's name.
        """
        if name != Path(name).name or name.startswith("."):
            raise ValueError(f"not a domain's name: {name!r}")
        try:
            # Any user may have created a file or link in a folder of theirs.
            path = self._run / f"{name}.pid"
            with files.opened(path, os.O_NOFOLLOW) as file:
                if os.fstat(file).st_uid != os.geteuid():
                    raise PermissionError(errno.EPERM, "not libvirt's")
                pid = int(os.read(file, _PID_BYTES))
            command = (self._proc / str(pid) / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            raise _not_running() from None
        if not is_qemu_of(instance, command):
            raise _not_running()
        return pid

    def threads(self, pid: int) -> set[int]:
        """Thread ids of a process.

        :raises OSError: ESRCH when it has ended.
        """
        try:
            tasks = (self._proc / str(pid) / "task").iterdir()
            return {int(task.name) for task in tasks}
        except (FileNotFoundError, ProcessLookupError):
            raise _not_running() from None


def seen(instance: str, proc: Path = Path("/proc")) -> int | None:
    """The process of an instance (a UUID), by its command line alone.

    For people: any user may run a process that looks like it. None if there
    is none that this one sees.
    """
    for path in proc.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended
            if is_qemu_of(instance, path.read_bytes()):
                return int(path.parent.name)
    return None


def checked(instance: str) -> str:
    """A UUID in its one form, in which it can't be a path.

    :raises ValueError: this is not a UUID.
    """
    return str(uuid.UUID(instance))


def is_qemu_of(instance: str, command: bytes) -> bool:
    """Whether a command line, as /proc has it, is that of its QEMU."""
    words = command.decode(errors="replace").split("\0")
    return ("-uuid", instance) in itertools.pairwise(words)


def _not_running() -> OSError:
    return OSError(errno.ESRCH, "the instance is not running")
