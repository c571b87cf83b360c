# SPDX-License-Identifier: Apache-2.0
"""The groups, and what they count: a model of the kernel's resctrl.

What /proc does not tell is made up: the memory traffic of a thread grows
with its CPU time, and what it holds of the cache with the share of a CPU that
it uses, as far as the cache has room for it.
"""

import errno
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.lab.resctrl import threads
from tests.lab.resctrl.hardware import Hardware
from tests.lab.resctrl.tasks import Tasks
from tests.lab.resctrl.threads import Use

Levels = dict[int, float]


def refusal(number: int) -> OSError:
    """What a system call returns."""
    return OSError(number, "")


def _zeros() -> Levels:
    return defaultdict(float)


@dataclass(eq=False)
class Rmid:
    """A tag on cache lines. They keep it after its group is gone."""

    settled_at: float
    occupancy: Levels = field(default_factory=_zeros)

    def settle(self, levels: Levels, hw: Hardware, now: float) -> None:
        """Move from the old occupancy towards a level, for each domain."""
        passed, self.settled_at = now - self.settled_at, now
        rest = math.exp(-passed / hw.settling) if hw.settling else 0.0
        for domain in hw.domains:
            level = min(levels[domain], hw.l3_bytes)
            gap = self.occupancy[domain] - level
            self.occupancy[domain] = level + gap * rest


@dataclass(eq=False)
class Group:
    """A monitoring group in a control group, or that group itself."""

    parent: "Group | None"
    rmid: Rmid
    children: dict[str, "Group"] = field(default_factory=dict)
    #: CPU time in ns, by domain
    used: Levels = field(default_factory=_zeros)
    #: What a control group was told, by resource and domain.
    masks: dict[str, dict[int, str]] = field(default_factory=dict)

    @property
    def control(self) -> "Group":
        """The control group that it is in, or is."""
        return self.parent or self

    @property
    def family(self) -> tuple["Group", ...]:
        """Those whose counters a control group's counters include."""
        return (self, *self.children.values())


class Groups:
    """All groups of the host."""

    def __init__(
        self, hardware: Callable[[], Hardware], clock: Callable[[], float]
    ) -> None:
        self._hardware = hardware
        self._clock = clock
        self._freed: list[Rmid] = []
        self.root = Group(None, Rmid(clock()))
        self.controls: dict[str, Group] = {}
        self._tasks = Tasks(self.root, clock, self._count)

    # Groups

    def add_control(self, name: str) -> None:
        """Mkdir at the top."""
        if len(self.controls) + 1 >= self._hardware().num_closids:
            raise refusal(errno.ENOSPC)
        self.controls[name] = Group(None, self._take_rmid())

    def add_monitor(self, control: Group, name: str) -> None:
        """Mkdir in mon_groups."""
        control.children[name] = Group(control, self._take_rmid())

    def remove_control(self, name: str) -> None:
        """Rmdir at the top: its tasks are the default group's again."""
        group = self.controls.pop(name)
        for each in group.family:
            self._dissolve(each, self.root)

    def remove_monitor(self, control: Group, name: str) -> None:
        """Rmdir in mon_groups: its tasks are its control group's again."""
        self._dissolve(control.children.pop(name), control)

    def _dissolve(self, group: Group, heir: Group) -> None:
        self._settle(group)
        for task in self._tasks.of(group):
            task.group = heir
        self._freed.append(group.rmid)

    def _take_rmid(self) -> Rmid:
        """One that no group has, and that is clean, as the kernel has it."""
        hw, in_use = self._hardware(), self._in_use()
        if in_use >= hw.num_rmids:
            raise refusal(errno.ENOSPC)
        if in_use + len(self._freed) < hw.num_rmids:
            return Rmid(self._clock())
        for rmid in self._freed:
            rmid.settle(_zeros(), hw, self._clock())
            if max(rmid.occupancy.values(), default=0) <= hw.threshold:
                self._freed.remove(rmid)
                return rmid
        raise refusal(errno.EBUSY)

    def _in_use(self) -> int:
        controls = (self.root, *self.controls.values())
        return sum(len(control.family) for control in controls)

    # Tasks

    def assign(self, tid: int, group: Group) -> None:
        """Move a thread into a group."""
        task = self._tasks.find(tid)
        if task is None:
            raise refusal(errno.ESRCH)
        if group.parent not in (None, task.group.control):
            raise refusal(errno.EINVAL)
        task.group = group

    def tids(self, group: Group) -> Iterator[int]:
        """The threads in a group; a control group has those in it too."""
        if group is not self.root:
            found = (self._tasks.of(each) for each in group.family)
            yield from sorted(task.tid for tasks in found for task in tasks)
            return
        for tid in threads.everything():
            task = self._tasks.known(tid)
            if task is None or task.group.control is group:
                yield tid

    # Counters

    def traffic(self, group: Group, domain: int) -> int:
        """Bytes between a cache and memory, of a group and those in it."""
        used = 0.0
        for each in group.family:
            self._tasks.of(each)
            used += each.used[domain]
        return int(used * self._hardware().bytes_per_ns)

    def energy(self, group: Group, package: int) -> float:
        """J of the cores of a package, for a group and those in it."""
        used, hw = 0.0, self._hardware()
        for each in group.family:
            self._tasks.of(each)
            used += sum(
                ns
                for domain, ns in each.used.items()
                if hw.package(domain) == package
            )
        return used / 1e9 * hw.watts

    def occupancy(self, group: Group, domain: int) -> int:
        """Bytes of a cache that a group and those in it hold."""
        held = 0.0
        for each in group.family:
            self._settle(each)
            held += each.rmid.occupancy[domain]
        return int(held)

    def _settle(self, group: Group) -> None:
        hw, levels = self._hardware(), _zeros()
        for task in self._tasks.of(group):
            levels[_domain(task.use, hw)] += task.busy * hw.working_set
        group.rmid.settle(levels, hw, self._clock())

    def _count(self, group: Group, cpu_ns: int, use: Use) -> None:
        group.used[_domain(use, self._hardware())] += cpu_ns


def _domain(use: Use, hw: Hardware) -> int:
    """The L3 cache of the CPU on which a thread ran last."""
    return hw.domains[use.cpu % len(hw.domains)]
