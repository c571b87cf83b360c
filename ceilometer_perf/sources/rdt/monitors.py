# SPDX-License-Identifier: Apache-2.0
"""libvirt's cache and bandwidth monitors, where an instance's XML has them.

The keys are those of ``virConnectGetAllDomainStats``. What an instance has
no monitor for it has no keys for.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ceilometer_perf.sources.rdt.usage import (
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Usage,
    added,
)

_CACHE = ("cpu.cache.monitor", "bank", {OCCUPANCY: "bytes"})
_MEMORY = (
    "memory.bandwidth.monitor",
    "node",
    {TOTAL: "bytes.total", LOCAL: "bytes.local"},
)

Stats = Mapping[str, Any]


def usage(boot: int, stats: Stats) -> Usage | None:
    """What an instance uses by all of its monitors; None without any."""
    found = [
        Usage("libvirt", (boot, name), banks)
        for kind in (_CACHE, _MEMORY)
        for name, banks in _monitors(stats, *kind)
    ]
    return added(found) if found else None


def _monitors(
    stats: Stats, prefix: str, unit: str, features: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, dict[int, int | None]]]]:
    for number in range(stats.get(f"{prefix}.count", 0)):
        monitor = f"{prefix}.{number}"
        banks: dict[str, dict[int, int | None]] = {f: {} for f in features}
        for n in range(stats.get(f"{monitor}.{unit}.count", 0)):
            bank = f"{monitor}.{unit}.{n}"
            for feature, key in features.items():
                value = stats.get(f"{bank}.{key}")
                banks[feature][stats[f"{bank}.id"]] = value
        yield str(stats.get(f"{monitor}.name", number)), banks
