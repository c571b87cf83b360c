# SPDX-License-Identifier: Apache-2.0
"""libvirt's monitors of cache, bandwidth and energy, where the XML has them.

The keys are those of ``virConnectGetAllDomainStats``; energy has them since
libvirt 12.4, with the names that the kernel's files have. What an instance has
no monitor for it has no keys for; libvirt 11.3 leaves out monitors that it
can't read, too.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ceilometer_perf import cpus
from ceilometer_perf.host.stats import is_amount, is_count
from ceilometer_perf.rdt.usage import (
    CORE_ENERGY,
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Usage,
    added,
)

_CACHE = ("cpu.cache.monitor", "bank", {OCCUPANCY: "bytes"}, is_count)
_MEMORY = (
    "memory.bandwidth.monitor",
    "node",
    {TOTAL: "bytes.total", LOCAL: "bytes.local"},
    is_count,
)
_ENERGY = (
    "cpu.energy.monitor",
    "pkg",
    {CORE_ENERGY: CORE_ENERGY},
    is_amount,
)

Stats = Mapping[str, Any]

Vcpus = frozenset[int] | None
"""What a monitor counts; None is the whole process (libvirt after 12.5)."""

Expected = Mapping[str, Sequence[Vcpus]]
"""The monitors of an instance's XML, by the element that they are in."""

_KINDS = {"cachetune": _CACHE, "memorytune": _MEMORY, "energytune": _ENERGY}


@dataclass(frozen=True, slots=True)
class _Monitor:
    vcpus: Vcpus
    banks: Mapping[str, Mapping[int, float | None]]


def usage(
    boot: int, stats: Stats, expected: Expected = MappingProxyType({})
) -> Usage | None:
    """What an instance uses by all of its monitors; None without any.

    ValueError, TypeError or KeyError if that isn't libvirt's.
    """
    found: list[Usage] = []
    unread: set[str] = set()
    for name, kind in _KINDS.items():
        monitors = list(_monitors(stats, *kind))
        if _lacks(monitors, expected.get(name, ())):
            unread.update(kind[2])
            continue
        found += [
            Usage("libvirt", boot, monitor.banks)
            for monitor in _outermost(monitors)
        ]
    if not found:
        return None
    # That of all that there are, so that those which can be read go on while
    # others can't.
    identity = boot, tuple(expected.items())
    return dataclasses.replace(
        added(found), identity=identity, unread=frozenset(unread)
    )


def covers(expected: Expected, vcpus: frozenset[int]) -> bool:
    """Whether monitors, of each kind that there are, count all these vCPUs."""
    return all(
        None in sets or vcpus <= frozenset().union(*filter(None, sets))
        for sets in expected.values()
        if sets
    )


def _lacks(monitors: list[_Monitor], expected: Sequence[Vcpus]) -> bool:
    """Whether libvirt left out one of them."""
    return not set(expected) <= {monitor.vcpus for monitor in monitors}


def _outermost(monitors: list[_Monitor]) -> Iterator[_Monitor]:
    """Without those contained in another, which counts for them, too."""
    for monitor in monitors:
        inside = any(_contains(other, monitor) for other in monitors)
        if not monitor.vcpus or not inside:
            yield monitor


def _contains(whole: _Monitor, part: _Monitor) -> bool:
    if part.vcpus is None:
        return False
    return whole.vcpus is None or part.vcpus < whole.vcpus


def _monitors(
    stats: Stats,
    prefix: str,
    unit: str,
    features: Mapping[str, str],
    is_number: Callable[[object], bool],
) -> Iterator[_Monitor]:
    for number in _numbered(stats, prefix):
        monitor = f"{prefix}.{number}"
        banks: dict[str, dict[int, float | None]] = {f: {} for f in features}
        for n in _numbered(stats, f"{monitor}.{unit}"):
            bank = f"{monitor}.{unit}.{n}"
            for feature, key in features.items():
                value = stats.get(f"{bank}.{key}")
                cache = int(stats[f"{bank}.id"])
                banks[feature][cache] = value if is_number(value) else None
        text = stats.get(f"{monitor}.vcpus")
        vcpus = None if text is None else cpus.parse_libvirt(text)
        yield _Monitor(vcpus, banks)


def _numbered(stats: Stats, prefix: str) -> range:
    """The numbers of the entries that libvirt announces."""
    count = stats.get(f"{prefix}.count", 0)
    if count > len(stats):
        raise ValueError(f"{prefix}.count is {count}")
    return range(count)
