# SPDX-License-Identifier: Apache-2.0
"""A realtime guest as it runs: its threads, its memory, who shares its CPUs.

Its definition says what it boots next; what libvirt and others made of it
since is in /proc, readable for all. Looking interrupts nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ceilometer_perf import cpus
from ceilometer_perf.guest import Finding, Requirements, domain, errors
from ceilometer_perf.guest.realtime import Realtime
from ceilometer_perf.guest.xml import Element
from ceilometer_perf.host import kernel_files, threads
from ceilometer_perf.host.cpu_sets import CPUs
from ceilometer_perf.host.realtime.condition import counted
from ceilometer_perf.host.threads import Thread

REALTIME = ("fifo", "rr", "deadline")
AS_DEFINED = (
    "hard-reboot the instance: libvirt sets this when it starts a guest"
)
# KVM starts it where the vCPU is that runs first. The kernel cuts names off.
RECOVERY = "kvm-nx-lpage-recovery"[:15]
NEVER = "load kvm with nx_huge_pages=never, which starts no such thread"
MIB = 1024  # KiB


@dataclass(frozen=True)
class Running:
    """A guest that runs, its XML as libvirt runs it, and its needs."""

    pid: int
    root: Element
    asked: Requirements
    proc: Path = Path("/proc")

    @property
    def realtime(self) -> Realtime:
        """Its realtime vCPUs."""
        return self.asked.realtime or Realtime(frozenset(), frozenset())

    @cached_property
    def threads(self) -> list[Thread]:
        """All of its QEMU."""
        return list(threads.of_process(self.proc, self.pid))

    @cached_property
    def vcpus(self) -> dict[int, Thread]:
        """The threads of its vCPUs, by number."""
        found = ((thread.vcpu, thread) for thread in self.threads)
        return {vcpu: thread for vcpu, thread in found if vcpu is not None}

    @cached_property
    def pins(self) -> dict[int, CPUs]:
        """The host CPUs of each vCPU; none if some have none."""
        try:
            return domain.pins(self.root)
        except errors.NotInXMLError:  # a finding of the XML
            return {}

    @cached_property
    def cpus(self) -> CPUs:
        """The host CPUs of its realtime vCPUs."""
        sets = (self.pins.get(v) or frozenset() for v in self.realtime.vcpus)
        return frozenset().union(*sets)

    def path(self, thread: Thread) -> str:
        """Where /proc has it."""
        return f"/proc/{thread.pid}/task/{thread.tid}"


def check(guest: Running) -> Iterator[Finding]:
    """What is wrong with it."""
    if not guest.threads:
        return  # it has ended meanwhile
    for look in _scheduling, _placement, _own_threads, _memory, _others:
        yield from look(guest)


def _scheduling(guest: Running) -> Iterator[Finding]:
    wanted = guest.realtime
    here = domain.online_vcpus(guest.root)
    for vcpu in sorted(wanted.vcpus & here - guest.vcpus.keys()):
        yield Finding(
            f"realtime vCPU {vcpu} has no thread of its own",
            f"/proc/{guest.pid}/task",
            "a thread that emulates several vCPUs can't keep their deadlines",
            "boot the guest with KVM",
        )
    for vcpu, thread in sorted(guest.vcpus.items()):
        found = f"{thread.policy} with priority {thread.priority}"
        right = f"fifo with priority {wanted.priority}"
        if vcpu in wanted.vcpus and found != right:
            yield Finding(
                f"realtime vCPU {vcpu} runs {found} instead of {right}",
                guest.path(thread),
                "hw:cpu_realtime asks for vCPUs that nothing else delays",
                f"{AS_DEFINED}; until then: chrt -f -p {wanted.priority} "
                f"{thread.tid}",
            )
        elif vcpu in wanted.housekeeping and thread.policy in REALTIME:
            yield Finding(
                f"vCPU {vcpu} runs {found} as if it were realtime",
                guest.path(thread),
                "a housekeeping vCPU must leave QEMU's threads their turn",
                f"{AS_DEFINED}; until then: chrt -o -p 0 {thread.tid}",
            )


def _placement(guest: Running) -> Iterator[Finding]:
    for vcpu, thread in sorted(guest.vcpus.items()):
        allowed = threads.allowed(guest.proc, thread)
        pins = guest.pins.get(vcpu, frozenset())
        if vcpu in guest.realtime.vcpus and pins and not allowed <= pins:
            yield Finding(
                f"realtime vCPU {vcpu} may run on CPU {cpus.text(allowed)} "
                f"instead of {cpus.text(pins)}",
                guest.path(thread),
                "on other CPUs it meets other instances and the host",
                f"{AS_DEFINED}; until then: taskset -pc {cpus.text(pins)} "
                f"{thread.tid}",
            )


def _own_threads(guest: Running) -> Iterator[Finding]:
    """QEMU's own: the emulator, I/O threads, workers, vhost; and KVM's."""
    taken = {
        thread: threads.allowed(guest.proc, thread) & guest.cpus
        for thread in guest.threads
        if thread.vcpu is None
    }
    found = [thread for thread, shared in taken.items() if shared]
    ours = [thread for thread in found if thread.name != RECOVERY]
    theirs = [] if _nx_huge_pages_off(guest) else set(found) - set(ours)
    for group, remedy in (ours, AS_DEFINED), (theirs, NEVER):
        if not group:
            continue
        shared = frozenset().union(*(taken[thread] for thread in group))
        names = [thread.name for thread in group]
        yield Finding(
            f"CPU {cpus.text(shared)} of its realtime vCPUs may be used by "
            f"{counted('QEMU thread', names)}",
            guest.path(min(group, key=lambda thread: thread.tid)),
            "QEMU's own threads must not delay the vCPUs of "
            "hw:cpu_realtime, nor starve behind them",
            remedy,
        )


def _nx_huge_pages_off(guest: Running) -> bool:
    """Whether KVM's thread for them sleeps for ever."""
    path = guest.proc.parent / "sys/module/kvm/parameters/nx_huge_pages"
    return kernel_files.text(path) in {"N", "never"}


def _memory(guest: Running) -> Iterator[Finding]:
    status = guest.proc / str(guest.pid) / "status"
    locked = _kib(status, "VmLck")
    # Huge pages are not counted as locked: they are never swapped.
    held = locked + _kib(status, "HugetlbPages")
    size = _size(guest.root)
    if guest.asked.locked and held < size:
        yield Finding(
            f"{held // MIB} of {size // MIB} MiB of its memory are locked",
            f"/proc/{guest.pid}/status",
            "the host may swap the rest out, and a vCPU waits until it is "
            "read back",
            f"{AS_DEFINED}, for which libvirtd needs CAP_SYS_RESOURCE",
        )


def _kib(status: Path, name: str) -> int:
    words = (threads.field(status, name) or "").split()
    return int(words[0]) if words and words[0].isdecimal() else 0


def _size(root: Element) -> int:
    """Of the guest's memory, in KiB; libvirt writes no other unit."""
    text = root.findtext("memory", "")
    return int(text) if text.isdecimal() else 0


def _others(guest: Running) -> Iterator[Finding]:
    text = cpus.text(guest.cpus)
    using = threads.threads_on(guest.proc, guest.cpus)
    found = [thread for thread in using if thread.pid != guest.pid]
    if found:
        names = (f"{each.name} ({each.pid})" for each in found)
        yield Finding(
            f"CPU {text} of its realtime vCPUs is used by "
            f"{counted('other thread', names)}",
            guest.path(found[0]),
            "a thread of the host or of another guest delays the vCPU, or "
            "starves behind it",
            "isolate the CPUs: ceilometer-perf host probe --realtime",
        )
    interrupts = list(threads.interrupts_on(guest.proc, guest.cpus))
    if interrupts:
        names = (f"{each.number} ({each.names[0]})" for each in interrupts)
        yield Finding(
            f"CPU {text} of its realtime vCPUs gets "
            f"{counted('interrupt', names)}",
            f"/proc/irq/{interrupts[0].number}",
            "each runs its handler in place of the vCPU",
            "move them: ceilometer-perf host probe --realtime",
        )
