# SPDX-License-Identifier: Apache-2.0
"""What one instance uses of the caches and of the memory's bandwidth."""

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ceilometer_perf.host.resctrl import (
    CORE_ENERGY,
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Banks,
)
from ceilometer_perf.reading import Moment

__all__ = [
    "CORE_ENERGY",
    "LOCAL",
    "OCCUPANCY",
    "TOTAL",
    "Banks",
    "Origin",
    "Usage",
    "added",
]

Origin = Literal["perf", "libvirt", "resctrl"]


@dataclass(frozen=True, slots=True)
class Usage:
    """One reading. ``banks`` is by feature, as in OCCUPANCY.

    ``source`` is what samples call it. Another ``identity`` is another
    counter, which restarted; a new one says nothing about the instance for
    ``settling`` seconds. ``moment`` is when it was read, unless just now.
    ``by_bank`` is whether banks are distinguished. ``unread`` are features
    that the instance is monitored for, and that could not be read this time.
    """

    source: Origin
    identity: Hashable
    banks: Mapping[str, Banks] = field(default_factory=dict)
    settling: float = 0.0
    moment: Moment | None = None
    by_bank: bool = True
    unread: frozenset[str] = frozenset()

    def sum(self, feature: str) -> float | None:
        """Of all banks; None if unknown.

        A bank without a number is not an empty one.
        """
        known = self.known(feature)
        whole = known and len(known) == len(self.banks[feature])
        return sum(known.values()) if whole else None

    def known(self, feature: str) -> Mapping[int, float]:
        """The banks that have a number, by id."""
        banks = self.banks.get(feature, {})
        return {bank: n for bank, n in banks.items() if n is not None}


def added(usages: list[Usage]) -> Usage:
    """The parts of one instance, put together; there is at least one."""
    banks: dict[str, dict[int, float | None]] = {}
    for usage in usages:
        for feature, numbers in usage.banks.items():
            whole = banks.setdefault(feature, {})
            for bank, number in numbers.items():
                whole[bank] = _plus(whole.get(bank, 0), number)
    identity = tuple(usage.identity for usage in usages)
    return dataclasses.replace(usages[0], identity=identity, banks=banks)


def _plus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right
