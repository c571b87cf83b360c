# SPDX-License-Identifier: Apache-2.0
"""libvirt's cache and bandwidth monitors, where an instance's XML has them.

The keys are those of ``virConnectGetAllDomainStats``. What an instance has
no monitor for it has no keys for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ceilometer_perf.guest import cpus
from ceilometer_perf.host.stats import is_count
from ceilometer_perf.rdt.usage import (
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


@dataclass(frozen=True, slots=True)
class _Monitor:
    name: str
    vcpus: frozenset[int]
    banks: Mapping[str, Mapping[int, float | None]]


def usage(boot: int, stats: Stats) -> Usage | None:
    """What an instance uses by all of its monitors; None without any.

    ValueError, TypeError, KeyError or NovaRefusal if that isn't libvirt's.
    """
    found = [
        Usage("libvirt", (boot, monitor.name), monitor.banks)
        for kind in (_CACHE, _MEMORY)
        for monitor in _outermost(list(_monitors(stats, *kind)))
    ]
    return added(found) if found else None


def covers(stats: Stats, vcpus: frozenset[int]) -> bool:
    """Whether monitors, of each kind that there are, count all these vCPUs."""
    monitored = (
        [monitor.vcpus for monitor in _monitors(stats, *kind)]
        for kind in (_CACHE, _MEMORY)
    )
    return all(vcpus <= frozenset().union(*sets) for sets in monitored if sets)


def _outermost(monitors: list[_Monitor]) -> Iterator[_Monitor]:
    """Without those contained in another, which counts for them, too."""
    for monitor in monitors:
        whole = (m for m in monitors if monitor.vcpus < m.vcpus)
        if not monitor.vcpus or not any(whole):
            yield monitor


def _monitors(
    stats: Stats, prefix: str, unit: str, features: Mapping[str, str]
) -> Iterator[_Monitor]:
    for number in _numbered(stats, prefix):
        monitor = f"{prefix}.{number}"
        banks: dict[str, dict[int, float | None]] = {f: {} for f in features}
        for n in _numbered(stats, f"{monitor}.{unit}"):
            bank = f"{monitor}.{unit}.{n}"
            for feature, key in features.items():
                value = stats.get(f"{bank}.{key}")
                cache = int(stats[f"{bank}.id"])
                banks[feature][cache] = value if is_count(value) else None
        vcpus = cpus.parse_libvirt(stats.get(f"{monitor}.vcpus", ""))
        yield _Monitor(str(stats.get(f"{monitor}.name", number)), vcpus, banks)


def _numbered(stats: Stats, prefix: str) -> range:
    """The numbers of the entries that libvirt announces."""
    count = stats.get(f"{prefix}.count", 0)
    if count > len(stats):
        raise ValueError(f"{prefix}.count is {count}")
    return range(count)
