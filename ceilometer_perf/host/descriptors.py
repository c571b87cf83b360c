# SPDX-License-Identifier: Apache-2.0
"""How many files a process may have open, and how many it has.

libvirt's daemon keeps one open for each perf event of each guest.
"""

import re
from pathlib import Path

_LIMIT = re.compile(rb"^Max open files +([0-9]+)", re.MULTILINE)


def limit(pid: int, proc: Path = Path("/proc")) -> int | None:
    """The most; None if there is no limit, or it can't be seen."""
    try:
        found = _LIMIT.search((proc / str(pid) / "limits").read_bytes())
    except OSError:
        return None
    return None if found is None else int(found[1])


def in_use(pid: int, proc: Path = Path("/proc")) -> int | None:
    """How many are open; None if this user may not know."""
    try:
        return sum(1 for _ in (proc / str(pid) / "fd").iterdir())
    except OSError:
        return None
