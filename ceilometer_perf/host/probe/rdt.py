# SPDX-License-Identifier: Apache-2.0
"""Where L3 occupancy and memory bandwidth could come from on this host.

Whether the agent may use it is another question: a guest's XML must ask for
perf events and for libvirt's monitors, and resctrl takes a privileged helper.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ceilometer_perf.host import daemon, resctrl
from ceilometer_perf.host.probe.machine import Machine
from ceilometer_perf.host.probe.trials import Trial
from ceilometer_perf.host.probe.virt import Virt

MOUNT = "mount -t resctrl resctrl /sys/fs/resctrl"
SPLIT = resctrl.SPLIT_UNSEEN, resctrl.KNOW_OF_SPLITS
RESTART = (
    f"restart {daemon.name()}, which looks for resctrl only when it starts"
)


@dataclass(frozen=True, slots=True)
class RdtSource:
    """One of the places that the numbers come from, first choice first."""

    name: Literal["perf", "libvirt", "resctrl"]
    #: None if unknown.
    works: bool | None
    #: Why it doesn't, and how to fix that.
    reason: str | None = None
    remedy: str | None = None


def sources(
    machine: Machine, libvirt: Virt, trials: Sequence[Trial]
) -> Iterator[RdtSource]:
    """What became of each of the three."""
    yield _perf(machine, trials)
    yield _libvirt(machine, libvirt)
    yield _resctrl(machine)


def _perf(machine: Machine, trials: Sequence[Trial]) -> RdtSource:
    found = [t for t in trials if t.event.kind == "intel_cqm"]
    if any(trial.works for trial in found):
        return RdtSource("perf", works=True)
    others = "use one of the others"
    if machine.cqm_type is None:
        reason = "the kernel has no PMU intel_cqm (dropped in Linux 4.14)"
        return RdtSource("perf", False, reason, others)
    works = None if any(t.works is None for t in found) else False
    return RdtSource("perf", works, found[0].reason, others)


def _libvirt(machine: Machine, libvirt: Virt) -> RdtSource:
    if libvirt.error is not None:
        remedy = "give its URI with --connect"
        return RdtSource("libvirt", None, "libvirt was not reached", remedy)
    if machine.resctrl.split_unseen and not libvirt.is_remote:
        return RdtSource("libvirt", False, *SPLIT)
    # It looks for resctrl when it starts, and doesn't notice changes.
    there = libvirt.is_remote or machine.resctrl.features
    if libvirt.monitors and there:
        return RdtSource("libvirt", works=True)
    if there:
        reason = "libvirt's capabilities have no monitors"
        return RdtSource("libvirt", False, reason, RESTART)
    reason = "it needs resctrl and its monitoring features"
    if not machine.resctrl.possible:
        return RdtSource("libvirt", False, reason)
    remedy = f"fix resctrl as described there, then {RESTART}"
    return RdtSource("libvirt", False, reason, remedy)


def _resctrl(machine: Machine) -> RdtSource:
    found = machine.resctrl
    if not found.possible:
        return RdtSource(
            "resctrl",
            False,
            "the CPUs can't monitor (no cqm in /proc/cpuinfo)",
        )
    if not found.known:
        return RdtSource(
            "resctrl",
            False,
            "this kernel has no resctrl, or sees no CPU that has it",
            f"if the CPU has it, {found.enable}; virtual machines have none",
        )
    if found.mounted is None:
        return RdtSource("resctrl", False, "resctrl is not mounted", MOUNT)
    if not found.features:
        return RdtSource(
            "resctrl", False, "the CPUs monitor nothing", found.enable
        )
    if found.split_unseen:
        return RdtSource("resctrl", False, *SPLIT)
    if found.rmids is not None and found.in_use >= found.rmids:
        return RdtSource(
            "resctrl",
            False,
            f"{found.in_use} of {found.rmids} RMIDs are in use",
            "remove unused groups, such as those of pqos",
        )
    return RdtSource("resctrl", works=True)
