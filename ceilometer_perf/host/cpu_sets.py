# SPDX-License-Identifier: Apache-2.0
"""Sets of CPUs as a kernel writes them; None as in ``kernel_files``."""

from pathlib import Path

from ceilometer_perf import cpus
from ceilometer_perf.host.kernel_files import text

CPUs = frozenset[int]


def cpu_list(path: Path) -> CPUs | None:
    """CPUs: ``0-3,8``; none of them where nothing or ``(null)`` is listed."""
    found = text(path)
    return None if found is None else parse_list(found)


def parse_list(listed: str) -> CPUs:
    """What the kernel writes of CPUs."""
    try:
        return cpus.parse(listed)
    except ValueError:
        return frozenset()


def cpu_mask(path: Path) -> CPUs | None:
    """CPUs as bits, as in ``parse_mask``."""
    return parse_mask(text(path) or "")


def parse_mask(bitmap: str) -> CPUs | None:
    """CPUs as bits: ``ff,fffffffe``; None if it isn't that."""
    try:
        bits = int(bitmap.replace(",", ""), 16)
    except ValueError:
        return None
    return frozenset(n for n in range(bits.bit_length()) if bits >> n & 1)
