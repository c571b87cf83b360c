# SPDX-License-Identifier: Apache-2.0
"""What /proc and /sys say of a machine, below any root directory."""

from dataclasses import dataclass
from pathlib import Path

from ceilometer_perf.host import resctrl
from ceilometer_perf.host.kernel_files import number, text

CPU_PMU = "4"  # PERF_TYPE_RAW, which x86 gives its CPUs' counters
TYPE_BYTES = 10  # libvirt reads no more of intel_cqm's type

HYBRID = (
    "the CPUs are of several kinds with a PMU each, and a plain hardware "
    "event counts on one kind only"
)
MEDIATED = (
    "KVM gives the PMU to guests with a virtual one (enable_mediated_pmu): "
    "while one runs, no guest with this event starts, and while this event "
    "is open, no guest with a virtual PMU does"
)


@dataclass(frozen=True, slots=True)
class ResctrlState:
    """The kernel's interface to cache and bandwidth monitoring."""

    #: The kernel has it; whether the CPU does shows only once it is mounted.
    known: bool = False
    #: The CPUs may monitor; false if they say that they can't.
    possible: bool = True
    mounted: str | None = None
    features: tuple[str, ...] = ()
    #: How many groups can be monitored at once.
    rmids: int | None = None
    #: How many there are, of any kind and any creator.
    in_use: int = 0
    #: See :meth:`.Resctrl.is_split_unseen`.
    split_unseen: bool = False
    #: What has the kernel monitor, if the CPUs can.
    enable: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """A kernel, and what it knows of the CPUs' counters."""

    kernel: str | None
    #: kernel.perf_event_paranoid; None if the kernel has no perf events.
    paranoid: int | None
    #: PMUs that count what the CPUs execute.
    pmus: tuple[str, ...]
    #: KVM takes the PMU from the host while a guest with one runs.
    mediated_pmu: bool
    #: The perf event type of intel_cqm, on kernels older than 4.14.
    cqm_type: int | None
    #: It keeps one counter of each CPU for itself.
    nmi_watchdog: bool
    resctrl: ResctrlState

    @property
    def is_hybrid(self) -> bool:
        """Whether it has CPUs of several kinds."""
        return len(self.pmus) > 1

    def why_no_hardware(self) -> str | None:
        """Why libvirt should open no hardware event, though it could."""
        if self.mediated_pmu:
            return MEDIATED
        return HYBRID if self.is_hybrid else None


def read(root: Path = Path("/")) -> Machine:
    """The machine whose /proc and /sys are below ``root``."""
    kernel = root / "proc/sys/kernel"
    return Machine(
        kernel=text(kernel / "osrelease"),
        paranoid=number(kernel / "perf_event_paranoid"),
        pmus=_pmus(root / "sys"),
        mediated_pmu=mediated_pmu(root / "sys"),
        cqm_type=cqm_type(root / "sys"),
        nmi_watchdog=text(kernel / "nmi_watchdog") == "1",
        resctrl=_resctrl(root),
    )


def cqm_type(sys_dir: Path) -> int | None:
    """The type of the PMU intel_cqm as libvirt would read it."""
    found = text(sys_dir / "devices/intel_cqm/type") or ""
    short = found.isdecimal() and len(found) < TYPE_BYTES
    return int(found) if short else None


def _pmus(sys_dir: Path) -> tuple[str, ...]:
    # Other architectures give their CPUs' counters any type, but say which
    # CPUs have them, as hybrid x86 does. PMUs of other parts say "cpumask".
    found = (sys_dir / "bus/event_source/devices").glob("*/type")
    return tuple(
        sorted(
            path.parent.name
            for path in found
            if text(path) == CPU_PMU or (path.parent / "cpus").exists()
        )
    )


def mediated_pmu(sys_dir: Path) -> bool:
    """Whether KVM takes the PMU for guests that have one."""
    switches = (sys_dir / "module").glob(
        "kvm_*/parameters/enable_mediated_pmu"
    )
    return any(text(path) in {"Y", "1"} for path in switches)


def _resctrl(root: Path) -> ResctrlState:
    known = (text(root / "proc/filesystems") or "").split()
    mounted = _mounted(text(root / "proc/mounts") or "")
    enable = resctrl.how_to_enable(root / "proc")
    if mounted is None:
        possible = resctrl.cpus_can_monitor(root / "proc")
        return ResctrlState("resctrl" in known, possible, enable=enable)
    found = resctrl.Resctrl(root / mounted.lstrip("/"))
    return ResctrlState(
        known=True,
        mounted=mounted,
        features=found.features(),
        rmids=found.rmids(),
        in_use=found.in_use(),
        split_unseen=found.is_split_unseen(),
        enable=enable,
    )


def _mounted(mounts: str) -> str | None:
    fields = (line.split() for line in mounts.splitlines())
    return next((f[1] for f in fields if f[2:3] == ["resctrl"]), None)
