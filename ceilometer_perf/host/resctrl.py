# SPDX-License-Identifier: Apache-2.0
"""resctrl's monitoring groups, readable by any user.

The kernel's Documentation/filesystems/resctrl.rst has the layout, the same
for Intel, AMD and Arm. A *control group* is a folder at the top, the top
itself being the default one; *monitoring groups* are below each one's
``mon_groups``. Ours are named after the instance that they are for.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ceilometer_perf.host import kernel_files
from ceilometer_perf.host.cpu_sets import CPUs, cpu_list

PREFIX = "ceilometer-perf-"

OCCUPANCY = "llc_occupancy"
TOTAL = "mbm_total_bytes"
LOCAL = "mbm_local_bytes"
CORE_ENERGY = "core_energy"  # J, with decimals

SPLIT_UNSEEN = (
    "NUMA nodes share an L3 cache (sub-NUMA clustering), which this kernel "
    "doesn't know of: it counts one node's part for the whole"
)
KNOW_OF_SPLITS = (
    "boot Linux 6.11 or newer, or turn sub-NUMA clustering off in the firmware"
)

#: Of the L3 caches, and of memory where that has monitors of its own (Arm).
_BANK = re.compile("mon_(?:L3|MB)_([0-9]+)")
_PACKAGE = re.compile("mon_PERF_PKG_([0-9]+)")
#: A cache's part that belongs to one NUMA node (sub-NUMA clustering).
_PARTS = "mon_sub_L3_*"
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
        files = (path / "mon_features" for path in self._pools())
        found = (kernel_files.text(file) or "" for file in files)
        return tuple(name for text in found for name in text.split())

    def rmids(self) -> int | None:
        """How many groups of any kind there can be at once.

        A group takes one of each pool, so the smallest counts.
        """
        found = (_number(path / "num_rmids") for path in self._pools())
        return min((n for n in found if n is not None), default=None)

    def _pools(self) -> list[Path]:
        """Of what is monitored: caches, memory, packages."""
        return sorted((self.root / "info").glob("*_MON"))

    def is_split_unseen(self) -> bool:
        """Whether NUMA nodes share a cache, and the kernel doesn't know.

        With sub-NUMA clustering each node counts for itself. A kernel that
        doesn't know of it reads one node's where it should add up all.
        """
        if next(self.root.glob(f"mon_data/mon_L3_*/{_PARTS}"), None):
            return False
        nodes = map(_cpus, self._devices.glob("node/node[0-9]*/cpulist"))
        return any(
            node and self._sharing_l3(min(node)) - node for node in nodes
        )

    @property
    def _devices(self) -> Path:
        """The system's, in the sysfs that this is mounted in."""
        return self.root.parent.parent / "devices/system"

    def _sharing_l3(self, cpu: int) -> frozenset[int]:
        """All CPUs with the L3 cache of this one."""
        caches = self._devices / f"cpu/cpu{cpu}/cache"
        return _cpus(caches / "index3/shared_cpu_list")

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


@functools.cache  # in older kernels reading cpuinfo interrupts every CPU
def cpus_can_monitor(proc: Path = Path("/proc")) -> bool:
    """Whether there may be monitoring; false if known not to be.

    Only x86 has a flag for it.
    """
    flags = _FLAGS.search(kernel_files.text(proc / "cpuinfo") or "")
    return flags is None or "cqm" in flags[1].split()


@functools.cache
def how_to_enable(proc: Path = Path("/proc")) -> str:
    """What has the kernel monitor, if the CPUs can."""
    if "CPU implementer" in (kernel_files.text(proc / "cpuinfo") or ""):  # Arm
        return (
            "boot a kernel with CONFIG_ARM64_MPAM, on firmware that "
            "describes MPAM"
        )
    return "boot the kernel with rdt=cmt,mbmtotal,mbmlocal"


_FLAGS = re.compile(r"^flags\s*:(.*)$", re.MULTILINE)


def monitors(control: Path) -> list[Path]:
    """The monitoring groups in a control group, ours and others'."""
    return _folders(control / "mon_groups")


def threads(group: Path) -> frozenset[int]:
    """Those in a group; of a control group also those monitored in it."""
    found = map(_parse, (kernel_files.text(group / "tasks") or "").split())
    return frozenset(tid for tid in found if tid is not None)


def count(group: Path) -> Count | None:
    """Read a group's counters; None if it is gone."""
    try:
        identity = group.stat().st_ino
    except OSError:
        return None
    banks: dict[str, dict[int, int | float | None]] = {}
    for folder in _folders(group / "mon_data"):
        package = _PACKAGE.fullmatch(folder.name)
        joules = kernel_files.text(folder / CORE_ENERGY) if package else None
        if package and joules is not None:
            banks.setdefault(CORE_ENERGY, {})[int(package[1])] = _decimal(
                joules
            )
        bank = _BANK.fullmatch(folder.name)
        if bank is None:
            continue
        for feature, number in _counts(folder).items():
            banks.setdefault(feature, {})[int(bank[1])] = number
    return Count(identity, banks)


def _counts(folder: Path) -> Mapping[str, int | None]:
    """By feature that the CPUs have; None where there is no number.

    The kernel adds up the parts of a cache, and leaves some out if CPUs are
    offline. A part is read before the whole, which then can't be less, except
    that an occupancy may fall a little in between.
    """
    parts = [_numbers(path) for path in sorted(folder.glob(_PARTS))]
    whole = dict(_numbers(folder))
    for feature, number in whole.items():
        least = sum(part.get(feature) or 0 for part in parts)
        if feature == OCCUPANCY:
            least //= 2
        if number is not None and number < least:
            whole[feature] = None
    return whole


def _numbers(folder: Path) -> Mapping[str, int | None]:
    features = (OCCUPANCY, TOTAL, LOCAL)
    texts = {f: kernel_files.text(folder / f) for f in features}
    return {f: _parse(text) for f, text in texts.items() if text is not None}


def _decimal(text: str) -> int | float | None:
    """A number, with decimals or not."""
    return float(text) if _DECIMAL.fullmatch(text) else _parse(text)


def _cpus(path: Path) -> CPUs:
    """Those of a list in sysfs; none if it isn't there."""
    return cpu_list(path) or frozenset()


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _number(path: Path) -> int | None:
    return _parse(kernel_files.text(path) or "")


def _parse(text: str) -> int | None:
    """A number of the kernel's, which has 64 bits."""
    return int(text) if _NUMBER.fullmatch(text) else None


_NUMBER = re.compile("[0-9]{1,20}")
_DECIMAL = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
