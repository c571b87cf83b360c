# SPDX-License-Identifier: Apache-2.0
"""The files and folders of resctrl, as Documentation/filesystems/resctrl.rst
of the kernel has them."""

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.lab.resctrl import groups
from tests.lab.resctrl.groups import Group, Groups
from tests.lab.resctrl.hardware import LOCAL, OCCUPANCY, Hardware

RESOURCES = ("L3", "MB")
PREFIX = "mon_L3_"
PACKAGE = "mon_PERF_PKG_"
TELEMETRY = ("core_energy", "activity")


@dataclass(frozen=True)
class File:
    """A file: what it says, and what becomes of a line that is written."""

    read: Callable[[], str]
    write: Callable[[str], None] | None = None


Folder = Mapping[str, "File | Folder"]


class GroupFolders(Mapping[str, Folder]):
    """The folders of groups, each made when it is looked into."""

    def __init__(
        self,
        all_groups: Mapping[str, Group],
        make: Callable[[str, Group], Folder],
    ) -> None:
        self._groups = all_groups
        self._make = make

    def __getitem__(self, name: str) -> Folder:
        return self._make(name, self._groups[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


class Tree:
    """The whole file system, created for each access."""

    def __init__(self, all_groups: Groups, hardware: Callable[[], Hardware]):
        self._groups = all_groups
        self._hardware = hardware

    def find(self, path: str) -> File | Folder:
        """What is at a path; FileNotFoundError if nothing is."""
        found: File | Folder = self._root()
        for name in _names(path):
            if isinstance(found, File) or name not in found:
                raise groups.refusal(errno.ENOENT)
            found = found[name]
        return found

    def mkdir(self, path: str) -> None:
        """Make a group."""
        *where, name = _names(path)
        folder = self.find("/".join(where))
        if isinstance(folder, File) or name in folder:
            raise groups.refusal(errno.EEXIST)
        if not where:
            self._groups.add_control(name)
        elif where[-1] == "mon_groups" and len(where) <= 2:
            self._groups.add_monitor(self._control(where), name)
        else:
            raise groups.refusal(errno.EPERM)

    def rmdir(self, path: str) -> None:
        """Remove a group."""
        self.find(path)
        *where, name = _names(path)
        if not where and name in self._groups.controls:
            self._groups.remove_control(name)
        elif where and where[-1] == "mon_groups":
            self._groups.remove_monitor(self._control(where), name)
        else:
            raise groups.refusal(errno.EPERM)

    def _control(self, where: list[str]) -> Group:
        """The control group whose mon_groups this is."""
        if len(where) == 1:
            return self._groups.root
        return self._groups.controls[where[0]]

    # Folders

    def _root(self) -> Folder:
        controls = {
            name: self._control_group(name, group)
            for name, group in self._groups.controls.items()
        }
        info = {"info": self._info()}
        return {
            **controls,
            **self._control_group("", self._groups.root),
            **info,
        }

    def _control_group(self, path: str, group: Group) -> Folder:
        inside = f"{path}/mon_groups".strip("/")
        return {
            **self._group(path, group),
            "mode": File(lambda: "shareable"),
            "schemata": File(
                lambda: self._schemata(group),
                lambda line: self._set_schemata(group, line),
            ),
            "mon_groups": GroupFolders(
                group.children,
                lambda name, child: self._group(f"{inside}/{name}", child),
            ),
        }

    def _group(self, path: str, group: Group) -> Folder:
        return {
            "cpus": File(lambda: "0"),
            "cpus_list": File(lambda: ""),
            "tasks": File(
                lambda: "\n".join(map(str, self._groups.tids(group))),
                lambda line: self._groups.assign(_tid(line), group),
            ),
            "mon_data": {
                f"{PREFIX}{domain:02}": self._counters(path, group, domain)
                for domain in self._hardware().domains
            }
            | {
                f"{PACKAGE}{package:02}": self._telemetry(group, package)
                for package in self._hardware().packages
            },
        }

    def _telemetry(self, group: Group, package: int) -> Folder:
        """What the cores of a package tell, with decimals."""
        return {
            name: File(lambda: f"{self._groups.energy(group, package):.6f}")
            for name in TELEMETRY
        }

    def _counters(self, path: str, group: Group, domain: int) -> Folder:
        place = f"{path}/mon_data/{PREFIX}{domain:02}".strip("/")

        def counter(feature: str) -> File:
            return File(
                lambda: (
                    self._hardware().answer(f"{place}/{feature}")
                    or str(self._value(group, domain, feature))
                )
            )

        return {
            feature: counter(feature) for feature in self._hardware().features
        }

    def _value(self, group: Group, domain: int, feature: str) -> int:
        if feature == OCCUPANCY:
            return self._groups.occupancy(group, domain)
        hw = self._hardware()
        share = hw.local_share if feature == LOCAL else 1
        return int(self._groups.traffic(group, domain) * share) % (
            1 << hw.counter_bits
        )

    def _info(self) -> Folder:
        hw = self._hardware()
        return {
            "last_cmd_status": File(lambda: "ok"),
            "L3": _files(
                bit_usage=";".join(f"{d}={'S' * hw.ways}" for d in hw.domains),
                cbm_mask=hw.cbm_mask,
                min_cbm_bits="1",
                num_closids=str(hw.num_closids),
                shareable_bits="0",
            ),
            "L3_MON": _files(
                max_threshold_occupancy=str(hw.threshold),
                mon_features="\n".join(hw.features),
                num_rmids=str(hw.num_rmids),
            ),
            **self._telemetry_info(),
            "MB": _files(
                bandwidth_gran="10",
                delay_linear="1",
                min_bandwidth="10",
                num_closids=str(hw.num_closids),
            ),
        }

    def _telemetry_info(self) -> Folder:
        hw = self._hardware()
        if not hw.packages:
            return {}
        return {
            "PERF_PKG_MON": _files(
                mon_features="\n".join(TELEMETRY),
                num_rmids=str(hw.num_rmids),
            )
        }

    # Schemata

    def _schemata(self, group: Group) -> str:
        hw = self._hardware()
        lines = []
        # What each domain has before anybody tells it more.
        for resource, default in zip(
            RESOURCES, (hw.cbm_mask, "100"), strict=True
        ):
            told = group.masks.get(resource, {})
            masks = (f"{d}={told.get(d, default)}" for d in hw.domains)
            lines.append(f"{resource:>6}:{';'.join(masks)}")
        return "\n".join(lines)

    def _set_schemata(self, group: Group, line: str) -> None:
        resource, _, masks = line.strip().partition(":")
        if resource not in RESOURCES:
            raise groups.refusal(errno.EINVAL)
        told = group.masks.setdefault(resource, {})
        for mask in masks.split(";"):
            domain, _, value = mask.partition("=")
            if int(domain) not in self._hardware().domains:
                raise groups.refusal(errno.EINVAL)
            told[int(domain)] = value


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _files(**texts: str) -> Folder:
    return {name: File(lambda text=text: text) for name, text in texts.items()}  # type: ignore[misc]


def _tid(line: str) -> int:
    if not line.isdecimal():
        raise groups.refusal(errno.EINVAL)
    return int(line)
