# SPDX-License-Identifier: Apache-2.0
"""Where L3 occupancy and memory bandwidth could come from on this host.

Whether the agent may use it is another question: a guest's XML must ask for
perf events and for libvirt's monitors, and resctrl takes a privileged helper.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ceilometer_perf.guest.events import INTEL_CQM
from ceilometer_perf.host.probe.machine import Machine
from ceilometer_perf.host.probe.verdicts import Verdict
from ceilometer_perf.host.probe.virt import Virt

MOUNT = "mount -t resctrl resctrl /sys/fs/resctrl"
RESTART = "restart libvirtd, which looks for resctrl at its start only"
BOOT = "boot the kernel with rdt=cmt,mbmtotal,mbmlocal"


@dataclass(frozen=True, slots=True)
class Source:
    """One of the places that the numbers come from, first choice first."""

    name: Literal["perf", "libvirt", "resctrl"]
    #: None if that can't be told.
    works: bool | None
    #: Why it doesn't, and what mends that.
    reason: str | None = None
    remedy: str | None = None


def sources(
    machine: Machine, libvirt: Virt, verdicts: Sequence[Verdict]
) -> Iterator[Source]:
    """What became of each of the three."""
    yield _perf(machine, verdicts)
    yield _libvirt(machine, libvirt)
    yield _resctrl(machine)


def _perf(machine: Machine, verdicts: Sequence[Verdict]) -> Source:
    found = [v for v in verdicts if v.event.name in INTEL_CQM]
    if any(verdict.works for verdict in found):
        return Source("perf", works=True)
    others = "use one of the others"
    if machine.cqm_type is None:
        reason = "the kernel has no PMU intel_cqm, as since Linux 4.14"
        return Source("perf", False, reason, others)
    works = None if any(v.works is None for v in found) else False
    return Source("perf", works, found[0].reason, others)


def _libvirt(machine: Machine, libvirt: Virt) -> Source:
    if libvirt.error is not None:
        remedy = "give its URI with --connect"
        return Source("libvirt", None, "libvirt was not reached", remedy)
    # It looks for resctrl at its start, and doesn't notice what changes.
    there = libvirt.is_remote or machine.resctrl.features
    if libvirt.monitors and there:
        return Source("libvirt", works=True)
    if there:
        reason = "libvirt's capabilities have no monitors"
        return Source("libvirt", False, reason, RESTART)
    reason = "it needs resctrl, and its monitoring features"
    if not machine.resctrl.possible:
        return Source("libvirt", False, reason)
    remedy = f"fix resctrl as said there, then {RESTART}"
    return Source("libvirt", False, reason, remedy)


def _resctrl(machine: Machine) -> Source:
    found = machine.resctrl
    if not found.possible:
        return Source(
            "resctrl",
            False,
            "the CPUs can't monitor (no cqm in /proc/cpuinfo)",
        )
    if not found.known:
        return Source(
            "resctrl",
            False,
            "this kernel has no resctrl, or sees no CPU that has it",
            f"where the CPU has it, {BOOT}; a virtual machine has none",
        )
    if found.mounted is None:
        return Source("resctrl", False, "resctrl is not mounted", MOUNT)
    if not found.features:
        return Source("resctrl", False, "the CPUs monitor nothing", BOOT)
    if found.rmids is not None and found.in_use >= found.rmids:
        return Source(
            "resctrl",
            False,
            f"{found.in_use} of {found.rmids} RMIDs are in use",
            "remove groups that nobody needs, of pqos for one",
        )
    return Source("resctrl", works=True)
