# SPDX-License-Identifier: Apache-2.0
"""What one cycle shows of the host's instances, for the judgement of them."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One instance in one cycle.

    None is what no trusted counter says; ``missing`` has the reasons, by the
    field's name. ``occupancy`` and ``bandwidth`` are in bytes and bytes per
    second, by the id of the L3 cache.
    """

    #: Of its QEMU, None if it can't be seen; another one is another life, of
    #: which nothing is known.
    process: Hashable
    #: Another one means that a counter has restarted since.
    counting: Hashable = None
    vcpus: int = 1
    #: How many CPUs its vCPUs used, and how many they waited for.
    cpus: float | None = None
    waited: float | None = None
    #: Cycles per instruction, and cache misses per 1,000 of them.
    cpi: float | None = None
    mpki: float | None = None
    occupancy: Mapping[int, float] | None = None
    bandwidth: Mapping[int, float] | None = None
    #: Where its vCPUs ran last and where they may, by CPU and by L3 cache.
    ran_on: frozenset[int] = frozenset()
    allowed: frozenset[int] = frozenset()
    domains: frozenset[int] = frozenset()
    reach: frozenset[int] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)

    def why_not(self, *names: str) -> str | None:
        """Why one of these fields is None; None if none of them is."""
        for name in names:
            if getattr(self, name) is None:
                return self.missing.get(name, f"no {name}")
        return None


@dataclass(frozen=True, slots=True)
class Frame:
    """Every instance that runs, by UUID, at ``at`` of the monotonic clock."""

    at: float
    seen: Mapping[str, Observation]
