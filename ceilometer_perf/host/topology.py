# SPDX-License-Identifier: Apache-2.0
"""Which CPUs share a core and an L3 cache, and where threads run.

As anybody may see it, in /sys/devices/system/cpu (cpu/topology in Linux'
documentation) and /proc (proc(5)).
"""

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ceilometer_perf import files
from ceilometer_perf.host import cpu_sets

# Index in stat after the command's closing parenthesis; proc(5) counts from
# 1, and the command is its field 2.
_PROCESSOR = 39 - 3


class Topology:
    """Of this host. Not safe for threads.

    A CPU that is off is in no file. Nova turns off those that no instance has
    ([libvirt] cpu_power_management), so each is looked up when it is used.
    """

    def __init__(
        self,
        sys: Path = Path("/sys/devices/system/cpu"),
        proc: Path = Path("/proc"),
    ) -> None:
        self._sys = sys
        self._proc = str(proc)
        #: The other threads of each CPU's core, where there are any.
        self.siblings: dict[int, frozenset[int]] = {}
        #: The L3 cache of each CPU, by the ids that resctrl uses.
        self.l3: dict[int, int] = {}
        #: CPUs that were on when these were read.
        self._known: set[int] = set()
        self._read()

    def domains(self, ran_on: frozenset[int]) -> frozenset[int]:
        """The L3 caches of these CPUs."""
        if not ran_on <= self._known:
            self._read()
            self._known |= ran_on  # or they would be looked for each time
        return frozenset(self.l3[cpu] for cpu in ran_on if cpu in self.l3)

    def _read(self) -> None:
        """Add what is on now; what was found before stays true."""
        for folder in self._sys.glob("cpu[0-9]*"):
            cpu = int(folder.name[3:])
            if others := _siblings(folder) - {cpu}:
                self.siblings[cpu] = self.siblings.get(cpu, others) | others
            for bank in _l3(folder):
                self.l3[cpu] = bank
            if (folder / "topology").exists():
                self._known.add(cpu)

    def ran_on(self, threads: Iterable[int]) -> frozenset[int]:
        """The CPU on which each of these threads runs, or ran last."""
        return frozenset(self._processors(threads))

    def allowed(self, threads: Iterable[int]) -> frozenset[int]:
        """All CPUs on which one of these threads may run."""
        found: set[int] = set()
        for tid in threads:
            with contextlib.suppress(OSError):  # it has ended
                found |= os.sched_getaffinity(tid)
        return _same(frozenset(found))

    def _processors(self, threads: Iterable[int]) -> Iterator[int]:
        for tid in threads:
            stat = files.peek(f"{self._proc}/{tid}/stat") or b""
            # The command may contain anything, parentheses included.
            fields = stat[stat.rfind(b")") + 2 :].split()
            if len(fields) > _PROCESSOR:
                yield int(fields[_PROCESSOR])


@functools.lru_cache(256)
def _same(found: frozenset[int]) -> frozenset[int]:
    """One object for those that are equal: each takes 16 KiB on a large host.

    They are remembered for some cycles, of all instances.
    """
    return found


def _siblings(folder: Path) -> frozenset[int]:
    text = files.peek(f"{folder}/topology/thread_siblings_list") or b""
    return cpu_sets.parse_list(text.decode())


def _l3(folder: Path) -> Iterator[int]:
    for index in folder.glob("cache/index[0-9]*"):
        if (files.peek(f"{index}/level") or b"").strip() == b"3":
            bank = (files.peek(f"{index}/id") or b"").strip()
            if bank.isdigit():
                yield int(bank)
