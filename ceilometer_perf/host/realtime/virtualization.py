# SPDX-License-Identifier: Apache-2.0
"""KVM, QEMU and libvirt."""

from collections.abc import Callable
from pathlib import Path

from ceilometer_perf.events import Version
from ceilometer_perf.host import threads
from ceilometer_perf.host.probe.virt import Virt
from ceilometer_perf.host.realtime.condition import (
    Condition,
    Found,
    State,
    value,
)
from ceilometer_perf.host.realtime.host import Host

KVM = "sys/module/kvm/parameters"
MODPROBE = (
    "put the line into /etc/modprobe.d/kvm.conf and load kvm again, or "
    "reboot: options kvm"
)
# Nova 34 does not start with less.
LIBVIRT: Version = (8, 0, 0)
QEMU: Version = (6, 2, 0)
CAPABILITIES = {23: "CAP_SYS_NICE", 24: "CAP_SYS_RESOURCE"}


def _kvm(host: Host) -> Found:
    there = (host.root / "sys/module/kvm").is_dir()
    device = (host.root / "dev/kvm").exists()
    if there and device:
        return Found(True, "/dev/kvm")
    return Found(False, "no /dev/kvm" if there else "the kernel has no kvm")


def _timer_advance(host: Host) -> Found:
    # A boolean in newer kernels; in others ns, of which -1 is automatic.
    for name in "lapic_timer_advance", "lapic_timer_advance_ns":
        text = host.text(f"{KVM}/{name}")
        if text is not None:
            return Found(text not in {"N", "0"}, text)
    return Found(True, "not in this kernel")


def _halt_poll(host: Host) -> Found:
    found = host.number(f"{KVM}/halt_poll_ns")
    if found is None:
        return Found(None, f"no /{KVM}/halt_poll_ns")
    return Found(found > 0, str(found))


def _libvirtd(host: Host) -> Found:
    process = host.process("virtqemud", "libvirtd")
    if process is None:
        return Found(None, "neither virtqemud nor libvirtd is running")
    name = host.text(f"proc/{process.name}/comm")
    lacks = _lacks(process)
    if lacks is None:
        return Found(None, f"can't read /proc/{process.name}/status")
    return Found(
        not lacks,
        f"{name} lacks {' and '.join(lacks)}" if lacks else f"{name} may",
    )


def _lacks(process: Path) -> list[str] | None:
    """Capabilities that the process does not have."""
    try:
        bits = int(threads.field(process / "status", "CapEff") or "", 16)
    except ValueError:
        return None
    return [name for bit, name in CAPABILITIES.items() if not bits >> bit & 1]


def _version(
    of: Callable[[Virt], Version | None], least: Version
) -> Callable[[Host], Found]:
    def look(host: Host) -> Found:
        found = of(host.virt)
        if found is None:
            why = host.virt.error or "libvirt finds no QEMU"
            return Found(None, why)
        return Found(found >= least, ".".join(map(str, found)))

    return look


CONDITIONS = (
    Condition(
        name="kvm",
        look=_kvm,
        right="/dev/kvm",
        why="without KVM, QEMU emulates each instruction, in threads that "
        "wait for each other",
        remedy="turn on virtualization in the firmware, and load kvm_intel "
        "or kvm_amd",
    ),
    Condition(
        name="halt_poll_ns",
        look=_halt_poll,
        right="more than 0",
        why="a halted vCPU keeps its CPU for that long, and needs no wake-up "
        "by the scheduler if an interrupt comes meanwhile",
        remedy=f"{MODPROBE} halt_poll_ns=200000",
        otherwise=State.WARNING,
    ),
    Condition(
        name="lapic_timer_advance",
        look=_timer_advance,
        right="on",
        why="KVM lets a guest's timer expire as much too early as entering "
        "the guest takes",
        remedy=f"{MODPROBE} lapic_timer_advance=Y (older kernels: "
        "lapic_timer_advance_ns=-1)",
        otherwise=State.WARNING,
    ),
    Condition(
        name="kvmclock_periodic_sync",
        look=value(
            f"{KVM}/kvmclock_periodic_sync", "N", absent="not in this kernel"
        ),
        right="N",
        why="it interrupts each vCPU every five minutes to adjust its clock; "
        "NTP or PTP in the guest does that as well",
        remedy=f"{MODPROBE} kvmclock_periodic_sync=0",
        otherwise=State.WARNING,
    ),
    Condition(
        name="nx_huge_pages",
        look=value(
            f"{KVM}/nx_huge_pages", "N", "never", absent="not in this kernel"
        ),
        right="off (N)",
        why="KVM splits large pages when code in them first runs, and joins "
        "them again every hour, by a thread on the CPU of some vCPU",
        remedy="boot with kvm.nx_huge_pages=off, if the CPUs are not "
        "affected by itlb_multihit or all guests are trusted",
        otherwise=State.WARNING,
    ),
    Condition(
        name="libvirtd",
        look=_libvirtd,
        right="it has CAP_SYS_RESOURCE and CAP_SYS_NICE",
        why="it raises the limit of locked memory of a realtime guest, and "
        "makes vCPUs realtime: a guest does not start without",
        remedy="run it as root with these capabilities: "
        "CapabilityBoundingSet= in its unit, --cap-add or --privileged of a "
        "container",
    ),
    Condition(
        name="libvirt",
        look=_version(lambda virt: virt.daemon, LIBVIRT),
        right="8.0.0 or newer",
        why="Nova 34 does not start with an older one",
        remedy="upgrade it",
    ),
    Condition(
        name="qemu",
        look=_version(lambda virt: virt.hypervisor, QEMU),
        right="6.2.0 or newer",
        why="Nova 34 does not start with an older one",
        remedy="upgrade it",
    ),
)
