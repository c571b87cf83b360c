# SPDX-License-Identifier: Apache-2.0
"""Files in which a kernel says one thing: /proc, /sys.

None stands for a file that isn't there, can't be read, or says something
else.
"""

from pathlib import Path

from ceilometer_perf.guest import cpus, errors

CPUs = frozenset[int]


def text(path: Path) -> str | None:
    """What it says, without the line break."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def number(path: Path) -> int | None:
    """A number, in decimal."""
    try:
        return int(text(path) or "")
    except ValueError:
        return None


def cpu_list(path: Path) -> CPUs | None:
    """CPUs: ``0-3,8``; none of them where nothing or ``(null)`` is listed."""
    found = text(path)
    return None if found is None else parse_list(found)


def parse_list(listed: str) -> CPUs:
    """What the kernel writes of CPUs."""
    try:
        return cpus.parse(listed)
    except errors.GuestError:
        return frozenset()


def cpu_mask(path: Path) -> CPUs | None:
    """CPUs as bits: ``ff,fffffffe``."""
    try:
        bits = int((text(path) or "").replace(",", ""), 16)
    except ValueError:
        return None
    return frozenset(n for n in range(bits.bit_length()) if bits >> n & 1)
