# SPDX-License-Identifier: Apache-2.0
"""What the machine has that the lab's resctrl makes up."""

import dataclasses
import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

OCCUPANCY = "llc_occupancy"
TOTAL = "mbm_total_bytes"
LOCAL = "mbm_local_bytes"


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One machine. All of it may be changed while it runs.

    The fake PMU tells what a machine with the default traffic, share and
    working set would.
    """

    #: The ids of its L3 caches; the CPUs are dealt out to them in turn.
    #: libvirt takes "08" and "09" for octal, and can't read its monitors.
    domains: tuple[int, ...] = (0,)
    num_rmids: int = 64
    num_closids: int = 16
    features: tuple[str, ...] = (OCCUPANCY, TOTAL, LOCAL)
    l3_bytes: int = 32 << 20
    #: Into how many parts a cache can be divided.
    ways: int = 16
    #: Memory traffic of a thread for each nanosecond of its CPU time.
    bytes_per_ns: float = 1.0
    #: How much of that stays on the thread's own node.
    local_share: float = 0.75
    #: Bytes of a cache that a thread holds if it always runs.
    working_set: int = 8 << 20
    #: The packages whose cores tell their energy; by default none does.
    packages: tuple[int, ...] = ()
    #: Power of a core that a thread uses.
    watts: float = 10.0
    #: Where the byte counters start again from 0.
    counter_bits: int = 64
    #: Seconds in which an occupancy gets most of the way to its new level.
    settling: float = 1.0
    #: A freed RMID is given out again once its occupancy is below this.
    threshold: int = 65536
    #: A pattern of paths below the mount: what they say instead of a number.
    answers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def cbm_mask(self) -> str:
        """All of a cache's ways, in hexadecimal."""
        return f"{(1 << self.ways) - 1:x}"

    def package(self, domain: int) -> int:
        """The package that an L3 cache is in."""
        number = self.domains.index(domain)
        return self.packages[number * len(self.packages) // len(self.domains)]

    @property
    def way_bytes(self) -> int:
        """What there is of a cache in one of its ways."""
        return self.l3_bytes // self.ways

    def answer(self, path: str) -> str | None:
        """What the counter at a path says instead of a number, if it does."""
        found = (
            a for p, a in self.answers.items() if fnmatch.fnmatch(path, p)
        )
        return next(found, None)

    def save(self, path: Path) -> None:
        """Write it down, all at once."""
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(dataclasses.asdict(self)))
        unfinished.rename(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what was saved."""
        values = json.loads(path.read_text())
        for name in ("domains", "features", "packages"):
            values[name] = tuple(values[name])
        return cls(**values)


INTEL = Hardware(domains=(0, 1))
#: One L3 for each group of cores, with the ids of the packages' caches.
AMD = Hardware(domains=(0, 4, 8), num_rmids=256, l3_bytes=16 << 20)
#: The ids are what the firmware's tables say, and not all is monitored.
ARM = Hardware(domains=(1, 65), num_rmids=32, features=(OCCUPANCY, TOTAL))
