# SPDX-License-Identifier: Apache-2.0
"""resctrl's monitoring groups, readable by any user.

The kernel's Documentation/filesystems/resctrl.rst has the layout, the same
for Intel, AMD and Arm. A *control group* is a folder at the top, the top
itself being the default one; *monitoring groups* are below each one's
``mon_groups``. Ours are named after the instance that they are for.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ceilometer_perf.host.kernel_files import text

PREFIX = "ceilometer-perf-"

OCCUPANCY = "llc_occupancy"
TOTAL = "mbm_total_bytes"
LOCAL = "mbm_local_bytes"
CORE_ENERGY = "core_energy"  # J, with decimals

#: The folders of one kind, and what is counted in each.
_KINDS = {
    "mon_L3_": (OCCUPANCY, TOTAL, LOCAL),
    "mon_PERF_PKG_": (CORE_ENERGY,),
}
_NOT_GROUPS = frozenset({"info", "mon_data", "mon_groups"})

Banks = Mapping[int, int | float | None]
"""A counter by the id of the L3 cache, energy by that of the package; None
where the kernel had no number (``Unavailable``, ``Error``, ``Unassigned``)."""


@dataclass(frozen=True, slots=True)
class Count:
    """What a group counts: ``banks`` is by feature, as in OCCUPANCY.

    Another ``identity`` is another group, which restarted from 0.
    """

    identity: int
    banks: Mapping[str, Banks]


class Resctrl:
    """A resctrl file system; one that is not mounted has nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def monitors(self) -> bool:
        """Whether it is mounted, and the CPUs monitor."""
        return (self.root / "mon_groups").is_dir()

    @property
    def mounted(self) -> bool:
        """Whether it is there, with monitoring or not."""
        return (self.root / "info").is_dir()

    def features(self) -> tuple[str, ...]:
        """What the CPUs monitor; nothing where they don't."""
        paths = sorted(self.root.glob("info/*_MON/mon_features"))
        return tuple(f for path in paths for f in (text(path) or "").split())

    def rmids(self) -> int | None:
        """How many groups of any kind there can be at once."""
        paths = self.root.glob("info/*_MON/num_rmids")
        pools = [n for n in map(_number, paths) if n is not None]
        return min(pools, default=None)

    def in_use(self) -> int:
        """How many groups there are, each of which has an RMID."""
        controls = list(self.controls())
        return len(controls) + sum(len(monitors(c)) for c in controls)

    def controls(self) -> Iterator[Path]:
        """All control groups, the default one first."""
        if not self.monitors:
            return
        yield self.root
        for folder in _folders(self.root):
            if folder.name not in _NOT_GROUPS:
                yield folder

    def ours(self) -> Mapping[str, tuple[Path, ...]]:
        """Our own groups by instance UUID.

        An instance has one in each control group that its threads are in.
        """
        found: dict[str, tuple[Path, ...]] = {}
        for control in self.controls():
            for group in monitors(control):
                if group.name.startswith(PREFIX):
                    uuid = group.name.removeprefix(PREFIX)
                    found[uuid] = (*found.get(uuid, ()), group)
        return found


def cpus_can_monitor(proc: Path = Path("/proc")) -> bool:
    """Whether there may be monitoring; false if known not to be.

    Only x86 has a flag for it.
    """
    flags = _FLAGS.search(text(proc / "cpuinfo") or "")
    return flags is None or "cqm" in flags[1].split()


_FLAGS = re.compile(r"^flags\s*:(.*)$", re.MULTILINE)


def monitors(control: Path) -> list[Path]:
    """The monitoring groups in a control group, ours and others'."""
    return _folders(control / "mon_groups")


def threads(group: Path) -> frozenset[int]:
    """Those in a group; of a control group also those monitored in it."""
    found = map(_parse, (text(group / "tasks") or "").split())
    return frozenset(tid for tid in found if tid is not None)


def count(group: Path) -> Count | None:
    """Read a group's counters; None if it is gone."""
    try:
        identity = group.stat().st_ino
    except OSError:
        return None
    banks: dict[str, dict[int, int | float | None]] = {}
    for folder in _folders(group / "mon_data"):
        kind, bank = _bank(folder.name)
        if bank is None:
            continue
        for feature in _KINDS[kind]:
            said = text(folder / feature)
            if said is not None:  # the CPUs have the feature
                banks.setdefault(feature, {})[bank] = _value(said)
    return Count(identity, banks)


def _bank(name: str) -> tuple[str, int | None]:
    """65 of ``mon_L3_65``, 8 of ``mon_L3_08``: they are decimal."""
    kind = next((kind for kind in _KINDS if name.startswith(kind)), "")
    return kind, _parse(name.removeprefix(kind)) if kind else None


def _value(said: str) -> int | float | None:
    """A number, with decimals or not."""
    return float(said) if _DECIMAL.fullmatch(said) else _parse(said)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _number(path: Path) -> int | None:
    return _parse(text(path) or "")


def _parse(said: str) -> int | None:
    """A number of the kernel's, which has 64 bits."""
    return int(said) if _NUMBER.fullmatch(said) else None


_NUMBER = re.compile("[0-9]{1,20}")
_DECIMAL = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
