# SPDX-License-Identifier: Apache-2.0
"""The nova-compute of this host: which files it was started with."""

import os
import pwd
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ceilometer_perf import files
from ceilometer_perf.guest import nova_files
from ceilometer_perf.guest.nova_files import NovaFiles

#: Its user, where it does not run.
USER = nova_files.PROJECT

_ROOT = Path("/")
# Cotyledon puts the command line into the title where it can.
_TITLE = re.compile(rf"{nova_files.PROG}: master process \[(.*)\]")


def configuration(proc: Path = Path("/proc")) -> NovaFiles | None:
    """What the running nova-compute was started with.

    What one that is started now would read, if none is seen to run. None if
    there are no such files.
    """
    for process in _processes(proc):
        argv = _argv(process)
        if argv is not None:
            names = nova_files.started_with(
                argv, _home(process), _root(process)
            )
            return _found(
                (process / "cwd" / name for name in names), "nova-compute's"
            )
    return _found(nova_files.started_with((), _home_of(USER)))


def _found(names: Iterable[Path], origin: str = "") -> NovaFiles | None:
    found = tuple(names)
    return NovaFiles(found, origin) if found else None


def _processes(proc: Path) -> Sequence[Path]:
    """Those that see the files that this one sees, then the others."""
    found = (path for path in proc.iterdir() if path.name.isdigit())
    return sorted(
        found, key=lambda path: (_root(path) != _ROOT, int(path.name))
    )


def _argv(process: Path) -> Sequence[str] | None:
    """The arguments of a nova-compute; None of any other process."""
    try:
        words = os.fsdecode(files.read(process / "cmdline")).split("\0")
    except OSError:  # it ended, or is hidden
        return None
    if title := _TITLE.match(words[0]):
        words = title[1].split()
    # The first is the interpreter, unless it is the script itself.
    for at, word in enumerate(words[:2]):
        if Path(word).name == nova_files.PROG:
            return words[at + 1 :]
    return None


def _root(process: Path) -> Path:
    """Where its / is; ours, where that can't be seen."""
    try:
        theirs = (process / "ns/mnt").readlink()
        ours = (process.parent / "self/ns/mnt").readlink()
    except OSError:
        return _ROOT
    return _ROOT if theirs == ours else process / "root"


def _home(process: Path) -> Path | None:
    try:
        return _home_of(process.stat().st_uid)
    except OSError:  # it ended
        return None


def _home_of(user: int | str) -> Path | None:
    try:
        known = (
            pwd.getpwuid(user) if isinstance(user, int)
            else pwd.getpwnam(user)
        )  # fmt: skip
    except KeyError:
        return None
    return Path(known.pw_dir)
