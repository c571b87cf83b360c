# SPDX-License-Identifier: Apache-2.0
"""Put instances into our own monitoring groups: the part that needs root.

The caller is not trusted, as the agent may have been compromised. A group is
named by our prefix and the instance's UUID, in resctrl's folder, which is an
option of the helper's own configuration.
"""

import contextlib
import errno
from collections.abc import Mapping
from pathlib import Path

from ceilometer_perf.host import resctrl
from ceilometer_perf.host.qemus import Qemus, checked
from ceilometer_perf.host.resctrl import PREFIX, Resctrl

_PASSES = 3  # threads that start in the meantime follow their creator


class Watching:
    """Starts and stops monitoring of instances, by their threads."""

    def __init__(
        self, root: Path, run: Path, proc: Path = Path("/proc")
    ) -> None:
        """``root``: resctrl's; ``run``: where libvirt's PID files are."""
        self._resctrl = Resctrl(root)
        self._qemus = Qemus(run, proc)

    def watch(self, name: str, instance: str) -> None:
        """Have all threads of an instance in its monitoring groups.

        :raises OSError: ENOSPC and EBUSY when there is no RMID left, EEXIST
            when another tool monitors it, ESRCH when it is not running.
        :raises ValueError: this is not a name or UUID.
        """
        instance = checked(instance)
        pid = self._qemus.pid(name, instance)
        done: set[int] = set()
        for _ in range(_PASSES):
            new = self._qemus.threads(pid) - done
            if not new:
                return
            for control, tids in self._by_control(new).items():
                _add(control, instance, tids)
            done |= new

    def release(self, instance: str) -> None:
        """Remove an instance's groups; its threads go back.

        :raises ValueError: this is not a UUID.
        """
        for group in self._resctrl.ours().get(checked(instance), ()):
            with contextlib.suppress(FileNotFoundError):
                group.rmdir()

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
