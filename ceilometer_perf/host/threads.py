# SPDX-License-Identifier: Apache-2.0
"""Threads of this host, and the interrupts beside them, as /proc has them.

``/proc/PID/task/TID/stat`` (proc(5)) and ``/proc/irq`` are readable for all;
reading them interrupts nobody.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ceilometer_perf import files
from ceilometer_perf.host import cpu_sets
from ceilometer_perf.host.cpu_sets import CPUs

# Indexes in stat after the command's closing parenthesis; proc(5) counts
# from 1, and the command is its field 2.
_STATE, _FLAGS, _CPU, _PRIORITY, _POLICY = 0, 9 - 3, 39 - 3, 40 - 3, 41 - 3
# Named so by QEMU with debug-threads=on, which libvirt always asks for.
VCPU = re.compile(r"CPU (\d+)/(?:KVM|TCG)")
# Kernel threads of their own, before Linux 6.4.
_SERVANT = re.compile(r"(?:vhost-|kvm-pit/|kvm-nx-lpage-recovery-)(\d+)")
# With PREEMPT_RT each interrupt's handler has a thread.
_VFIO = re.compile(r"irq/\d+-(?:s-)?vfio")

_KERNEL = 0x00200000  # PF_KTHREAD in linux/sched.h
_BOUND = 0x04000000  # PF_NO_SETAFFINITY

POLICIES = {
    os.SCHED_OTHER: "other",
    os.SCHED_FIFO: "fifo",
    os.SCHED_RR: "rr",
    os.SCHED_BATCH: "batch",
    os.SCHED_IDLE: "idle",
    6: "deadline",  # os has no name for it
}


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread, how it is scheduled, and where it ran last."""

    pid: int
    tid: int
    name: str
    flags: int
    cpu: int
    #: Of the kernel's names: ``fifo``.
    policy: str
    #: 1 to 99 of realtime policies, 0 of others.
    priority: int

    @property
    def vcpu(self) -> int | None:
        """Which of a QEMU's vCPUs it is."""
        found = VCPU.fullmatch(self.name)
        return int(found[1]) if found else None

    @property
    def serves(self) -> int | None:
        """The guest's process that KVM or vhost started it for."""
        found = _SERVANT.fullmatch(self.name)
        return int(found[1]) if found else None

    @property
    def is_bound(self) -> bool:
        """Whether it is a kernel thread that nobody may move."""
        return bool(self.flags & _KERNEL and self.flags & _BOUND)


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An interrupt that has a handler, and the CPUs that get it."""

    number: int
    names: tuple[str, ...]
    cpus: CPUs


def of_process(proc: Path, pid: int) -> Iterator[Thread]:
    """Its threads; none if it has ended."""
    for tid in _numbers(proc / str(pid) / "task"):
        stat = files.peek(f"{proc}/{pid}/task/{tid}/stat")
        if stat and (thread := _parse(pid, tid, stat)):
            yield thread


def everyone(proc: Path) -> Iterator[Thread]:
    """All threads of the host."""
    for pid in _numbers(proc):
        yield from of_process(proc, pid)


def guests(proc: Path) -> frozenset[int]:
    """The processes that have vCPUs."""
    found = (t.pid for t in everyone(proc) if t.vcpu is not None)
    return frozenset(found)


def allowed(proc: Path, thread: Thread) -> CPUs:
    """Where it may run; nowhere if it has ended."""
    path = f"{proc}/{thread.pid}/task/{thread.tid}/status"
    listed = field(path, "Cpus_allowed_list")
    return cpu_sets.parse_list(listed or "")


def field(path: str | Path, name: str) -> str | None:
    """What a status file of a process says under a name."""
    text = (files.peek(str(path), 16384) or b"").decode(errors="replace")
    found = re.search(rf"^{name}:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else None


def threads_on(proc: Path, cpus: CPUs) -> Iterator[Thread]:
    """Threads that use some CPUs: those that ran there last and may again.

    Kernel threads that nobody may move are left out, since what they do is
    started by others, and those of interrupts that a guest has.
    """
    for thread in everyone(proc):
        if (
            thread.cpu in cpus
            and not thread.is_bound
            and not _VFIO.match(thread.name)
            and allowed(proc, thread) & cpus
        ):
            yield thread


def interrupts_on(proc: Path, cpus: CPUs) -> Iterator[Interrupt]:
    """Interrupts that arrive at some CPUs.

    Not those of devices that a guest has: VFIO's are for its own vCPUs.
    """
    for number in _numbers(proc / "irq"):
        folder = proc / "irq" / str(number)
        theirs = cpu_sets.cpu_list(folder / "effective_affinity_list")
        if theirs is None:
            theirs = cpu_sets.cpu_list(folder / "smp_affinity_list")
        names = tuple(_folders(folder))
        mine = any(name.startswith("vfio") for name in names)
        if names and not mine and theirs and theirs & cpus:
            yield Interrupt(number, names, theirs & cpus)


def _folders(folder: Path) -> list[str]:
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [path.name for path in found if path.is_dir()]


def _numbers(folder: Path) -> list[int]:
    try:
        found = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    return sorted(int(name) for name in found if name.isdecimal())


def _parse(pid: int, tid: int, stat: bytes) -> Thread | None:
    # The command may contain anything, parentheses and blanks included.
    end = stat.rfind(b")")
    values = stat[end + 2 :].split()
    try:
        if values[_STATE] == b"Z":
            return None
        policy = int(values[_POLICY])
        return Thread(
            pid=pid,
            tid=tid,
            name=stat[stat.index(b"(") + 1 : end].decode(errors="replace"),
            flags=int(values[_FLAGS]),
            cpu=int(values[_CPU]),
            policy=POLICIES.get(policy, str(policy)),
            priority=int(values[_PRIORITY]),
        )
    except (IndexError, ValueError):
        return None
