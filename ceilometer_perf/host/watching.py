# SPDX-License-Identifier: Apache-2.0
"""Put instances into our own monitoring groups: the part that needs root.

The caller is not trusted, as the agent may have been compromised. An instance
is the QEMU process in libvirt's PID file, if its command line has the
instance's UUID. A group is named by our prefix and that UUID, in resctrl's
folder, which is an option of the helper's own configuration.
"""

import contextlib
import errno
import itertools
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from ceilometer_perf import files
from ceilometer_perf.host import resctrl
from ceilometer_perf.host.resctrl import PREFIX, Resctrl

_PID_BYTES = 32  # more than any PID file of libvirt's has
_PASSES = 3  # threads that start in the meantime follow their creator


class Watching:
    """Starts and stops monitoring of instances, by their threads."""

    def __init__(
        self, root: Path, run: Path, proc: Path = Path("/proc")
    ) -> None:
        """``root``: resctrl's; ``run``: where libvirt's PID files are."""
        self._resctrl = Resctrl(root)
        self._run = run
        self._proc = proc

    def watch(self, name: str, instance: str) -> None:
        """Have all threads of an instance in its monitoring groups.

        :raises OSError: ENOSPC and EBUSY when there is no RMID left, EEXIST
            when another tool monitors it, ESRCH when it is not running.
        :raises ValueError: this is not a name or UUID.
        """
        instance = _checked(instance)
        pid = self._pid(name, instance)
        done: set[int] = set()
        for _ in range(_PASSES):
            new = self._threads(pid) - done
            if not new:
                return
            for control, tids in self._by_control(new).items():
                _add(control, instance, tids)
            done |= new

    def release(self, instance: str) -> None:
        """Remove an instance's groups; its threads go back.

        :raises ValueError: this is not a UUID.
        """
        for group in self._resctrl.ours().get(_checked(instance), ()):
            with contextlib.suppress(FileNotFoundError):
                group.rmdir()

    def _pid(self, name: str, instance: str) -> int:
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
        if ["-uuid", instance] not in _pairs(command):
            raise _not_running()
        return pid

    def _threads(self, pid: int) -> set[int]:
        try:
            tasks = (self._proc / str(pid) / "task").iterdir()
            return {int(task.name) for task in tasks}
        except (FileNotFoundError, ProcessLookupError):
            raise _not_running() from None

    def _by_control(self, tids: set[int]) -> Mapping[Path, frozenset[int]]:
        """In which control group each thread is, to be monitored there."""
        controls = list(self._resctrl.controls())
        if not controls:
            raise OSError(errno.ENOENT, "resctrl is not mounted")
        default, *others = controls
        left, found = frozenset(tids), {}
        for control in others:
            found[control] = resctrl.threads(control) & left
            left -= found[control]
        found[default] = left
        return {control: inside for control, inside in found.items() if inside}


def _add(control: Path, instance: str, tids: frozenset[int]) -> None:
    """Have threads of a control group in the instance's group there."""
    ours = control / "mon_groups" / f"{PREFIX}{instance}"
    for group in resctrl.monitors(control):
        if group != ours and resctrl.threads(group) & tids:
            raise OSError(errno.EEXIST, f"monitored as {group.name}")
    with contextlib.suppress(FileExistsError):
        ours.mkdir()
    for tid in tids - resctrl.threads(ours):
        # It may have ended by now.
        with contextlib.suppress(ProcessLookupError):
            (ours / "tasks").write_text(f"{tid}\n")


def _checked(instance: str) -> str:
    """A UUID in its one form, in which it can't be a path."""
    return str(uuid.UUID(instance))


def _pairs(command: bytes) -> list[list[str]]:
    words = command.decode(errors="replace").split("\0")
    return [list(pair) for pair in itertools.pairwise(words)]


def _not_running() -> OSError:
    return OSError(errno.ESRCH, "the instance is not running")
