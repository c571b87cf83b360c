# SPDX-License-Identifier: Apache-2.0
"""How long a QEMU waits for the host, as anybody may see it.

For a CPU, thread by thread, in ``/proc/PID/task/TID/schedstat``
(Documentation/scheduler/sched-stats.rst in Linux); and for CPU, memory and
disks in the pressure files of its cgroup (Documentation/accounting/psi.rst).
Nothing here can wait for a guest, interrupts one, or needs a privilege.
"""

import contextlib
import os
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ceilometer_perf import files
from ceilometer_perf.host.processes import Process
from ceilometer_perf.host.threads import VCPU

RESOURCES = ("cpu", "memory", "io")

# The machine's cgroup, as systemd-machined and libvirt itself name it; libvirt
# puts the threads into others below.
_MACHINE = re.compile(
    r"^0::(/.*/(?:machine-qemu[^/]*\.scope|[^/]+\.libvirt-qemu))(?:/|$)",
    re.MULTILINE,
)
_SOME = re.compile(rb"^some avg10=\S+ avg60=(\d+\.\d+)", re.MULTILINE)


class Account(NamedTuple):
    """Of one thread, in ns since it started."""

    ran: int
    waited: int


class Waits:
    """Of the processes of libvirt's QEMU driver. Not safe for threads."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        self._cgroups = _cgroup2(proc)
        #: Whether each thread is a vCPU's, by the identity of its process.
        #: None if it is new: a vCPU's gives itself its name.
        self._threads: dict[tuple[int, int], Mapping[int, bool | None]] = {}
        self._machines: dict[tuple[int, int], str | None] = {}

    def accounts(self, process: Process) -> Mapping[int, Account]:
        """What each vCPU has run and waited for a CPU, by thread id.

        What a thread waits at the moment is not in it yet. Empty where the
        kernel does not account for it, or the process has ended.
        """
        folder = f"{self._proc}/{process.pid}/task"
        before = self._threads.get(process.identity, {})
        try:
            tids = [int(name) for name in os.listdir(folder)]  # noqa: PTH208
        except OSError:
            return {}
        threads: dict[int, bool | None] = {}
        for tid in tids:
            known = before.get(tid)
            if known is None:
                named = _is_vcpu(folder, tid)
                known = named if named or tid in before else None
            threads[tid] = known
        self._threads[process.identity] = threads
        vcpus = [tid for tid, is_vcpu in threads.items() if is_vcpu]
        return dict(_accounts(folder, vcpus))

    def pressure(self, process: Process) -> Mapping[str, float]:
        """Share of the last 60 s in which some of it waited, in %.

        By resource (``RESOURCES``); without those that the kernel, or the
        machine's cgroup, does not have.
        """
        if process.identity not in self._machines:
            self._machines[process.identity] = self._machine(process)
        machine = self._machines[process.identity]
        return {} if machine is None else dict(_pressures(machine))

    def forget_all_but(self, identities: Container[tuple[int, int]]) -> None:
        """Drop what is remembered of other processes."""
        for known in (self._threads, self._machines):
            for identity in [each for each in known if each not in identities]:
                del known[identity]

    def _machine(self, process: Process) -> str | None:
        text = files.peek(f"{self._proc}/{process.pid}/cgroup", 4096)
        found = _MACHINE.search(os.fsdecode(text or b""))
        # In another cgroup namespace than ours, paths begin with "/..".
        if found is None or self._cgroups is None or "/../" in found[1]:
            return None
        return f"{self._cgroups}{found[1]}"


def _cgroup2(proc: Path) -> str | None:
    """Where cgroups of version 2 are mounted."""
    with contextlib.suppress(OSError):
        for line in (proc / "self/mounts").read_text().splitlines():
            _, where, kind, *_ = line.split()
            if kind == "cgroup2":
                return where
    return None


def _is_vcpu(folder: str, tid: int) -> bool:
    name = os.fsdecode(files.peek(f"{folder}/{tid}/comm") or b"")
    return VCPU.fullmatch(name.rstrip("\n")) is not None


def _accounts(folder: str, tids: list[int]) -> Iterator[tuple[int, Account]]:
    for tid in tids:
        # Nanoseconds on a CPU, and waiting for one; all 0 where the kernel
        # does not account for it.
        numbers = (files.peek(f"{folder}/{tid}/schedstat") or b"").split()
        if len(numbers) == 3 and int(numbers[0]):
            yield tid, Account(int(numbers[0]), int(numbers[1]))


def _pressures(machine: str) -> Iterator[tuple[str, float]]:
    for resource in RESOURCES:
        text = files.peek(f"{machine}/{resource}.pressure")
        if text and (some := _SOME.match(text)):
            yield resource, float(some[1])
