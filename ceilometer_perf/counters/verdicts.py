# SPDX-License-Identifier: Apache-2.0
"""Why a counter is not published, and how to fix that."""

import enum
import errno
import os
from dataclasses import dataclass

from ceilometer_perf.host import resctrl
from ceilometer_perf.host.probe import machine


class Verdict(enum.StrEnum):
    """What the gate can say of a counter. All but ``OK`` withhold it."""

    OK = "ok"
    NOT_ENABLED = "not_enabled"
    HOST_LACKS = "host_lacks"
    DETACHED = "detached"
    MULTIPLEXED = "multiplexed"
    REALTIME = "realtime"
    NOT_RUNNING = "not_running"
    IN_DOUBT = "in_doubt"
    STALE = "stale"
    NEW = "new"
    IMPLAUSIBLE = "implausible"
    MISCOUNTED = "miscounted"
    PMU_TAKEN = "pmu_taken"
    REFUSED = "refused"
    UNSEEN = "unseen"

    @property
    def withholds(self) -> bool:
        """Whether there is a number that is not published."""
        return self not in _NO_NUMBER


_NO_NUMBER = (
    Verdict.OK, Verdict.NOT_ENABLED, Verdict.HOST_LACKS, Verdict.NOT_RUNNING,
    Verdict.NEW, Verdict.UNSEEN,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason and its remedy, each for people."""

    verdict: Verdict
    reason: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        if not self.reason:
            return self.verdict.value
        text = f"{self.verdict.value}: {self.reason}"
        return f"{text}; {self.remedy}" if self.remedy else text


OK = Judgement(Verdict.OK)

REOPEN = (
    "hard reboot the instance (openstack server reboot --hard) or live "
    "migrate it (openstack server migrate --live-migration): either opens its "
    "counters before its vCPUs start. Or have the agent count it: allow its "
    "helper ('ceilometer-perf doctor' checks it) with [perf] counters = auto"
)

NOT_ENABLED = Judgement(
    Verdict.NOT_ENABLED,
    "the instance's XML does not enable the event",
    "add it to [libvirt] enabled_perf_events in nova.conf and hard reboot "
    "the instance; or have the agent count it ([perf] counters, own_events)",
)


def host_lacks(why: str) -> Judgement:
    """The event can't be counted here; there is no remedy."""
    return Judgement(Verdict.HOST_LACKS, why)


REALTIME = Judgement(
    Verdict.REALTIME,
    "a realtime instance; reading its counters would interrupt its vCPUs",
    "set [perf] poll_realtime_guests to read it anyway",
)
NOT_RUNNING = Judgement(Verdict.NOT_RUNNING, "the instance is not running")

MEANWHILE = Judgement(
    Verdict.NOT_RUNNING,
    "the instance started or ended while it was being read",
)


def stale(why: str) -> Judgement:
    """The source did not answer; the next cycle asks again."""
    return Judgement(Verdict.STALE, why)


RESTARTED = Judgement(
    Verdict.DETACHED,
    "libvirt's daemon was restarted after the instance had booted, and its "
    "counters no longer see the vCPUs",
    REOPEN,
)
FELL = Judgement(
    Verdict.DETACHED,
    "a counter restarted in the same QEMU process (libvirt's daemon was "
    "restarted, or the event was enabled again) and no longer sees the vCPUs",
    REOPEN,
)
ENABLED_LIVE = Judgement(
    Verdict.DETACHED,
    "the event was enabled on the running instance and does not see its vCPUs",
    REOPEN,
)
UNDEFINED = Judgement(
    Verdict.DETACHED,
    "the running instance has the event and its definition does not: it was "
    "enabled on the running instance and does not see its vCPUs",
    REOPEN,
)


def uncovered(coverage: float) -> Judgement:
    """The clocks did not see what the process used."""
    return Judgement(
        Verdict.DETACHED,
        f"the counters saw {coverage:.1%} of the CPU time that the instance "
        "used (enabled while it was running, or libvirt's daemon was "
        "restarted)",
        REOPEN,
    )


def multiplexed(enabled: int, counters: int) -> Judgement:
    """More hardware events than the CPU can count at once."""
    return Judgement(
        Verdict.MULTIPLEXED,
        f"{enabled} hardware events share {counters} hardware counters, and "
        "libvirt does not scale what each of them missed",
        f"enable at most {counters} hardware events (ceilometer-perf host "
        "probe shows which fit) and hard reboot the instance",
    )


IN_DOUBT = Judgement(
    Verdict.IN_DOUBT,
    "nothing confirms yet that the counters see the vCPUs",
    "enable task_clock too (nova.conf, hard reboot): it is compared with "
    "the CPU time; or unset [perf] withhold_in_doubt",
)


MONITOR_UNREAD = Judgement(
    Verdict.STALE,
    "libvirt could not read the instance's cache and bandwidth monitors",
    "see its daemon's log; libvirt cannot read L3 caches 8 and 9",
)
PARTLY_MONITORED = Judgement(
    Verdict.NOT_ENABLED,
    "the monitors in the instance's XML cover only some of its vCPUs",
    "define the XML that ceilometer-perf guest apply --monitors prints, "
    "which has monitors for all of them",
)
GROUP_REMOVED = Judgement(
    Verdict.STALE,
    "the instance's resctrl group was removed; the next cycle creates it "
    "again",
)


NO_RDT_SOURCE = Judgement(
    Verdict.NOT_ENABLED,
    "the instance has nothing that [perf] rdt_source reads",
    "set rdt_source to auto or resctrl",
)
NO_GROUP = Judgement(
    Verdict.NOT_ENABLED,
    "the instance has no resctrl group",
    "the agent creates it when it polls cpu_l3_cache or "
    "memory.bandwidth.*; if it does, see its log",
)
SEE_QEMU = (
    "see [perf] qemu_run_dir; an agent in a container needs the host's "
    "process ids (--pid=host)"
)
UNSEEN = Judgement(
    Verdict.IN_DOUBT,
    "the threads of the instance's QEMU can't be seen, so its resctrl "
    "group may lack some of them",
    SEE_QEMU,
)
NO_PROCESS = Judgement(
    Verdict.UNSEEN,
    "the instance's QEMU can't be seen: it has no coverage, and counters that "
    "became wrong may be published",
    SEE_QEMU,
)
NEW = Judgement(
    Verdict.NEW,
    "its counters are too new; wait for the next reading",
)
NO_NUMBER = Judgement(
    Verdict.HOST_LACKS, "the CPUs or the kernel report no value for it"
)
NO_ENERGY = Judgement(
    Verdict.NOT_ENABLED,
    "the instance has no monitor of its energy, which only some CPUs count",
    "if these do, set rdt_source to resctrl, or add a monitor in <energytune> "
    "(libvirt 12.4)",
)
NO_L3 = Judgement(
    Verdict.HOST_LACKS, "libvirt's capabilities declare no L3 cache"
)


NO_MONITORING = Judgement(
    Verdict.HOST_LACKS,
    "the CPUs can't monitor caches and bandwidth (no cqm in /proc/cpuinfo)",
)


def not_mounted(root: object) -> Judgement:
    """resctrl is not mounted."""
    return Judgement(
        Verdict.HOST_LACKS,
        f"resctrl is not mounted at {root} ([perf] resctrl_path)",
        "mount -t resctrl resctrl /sys/fs/resctrl",
    )


def only_control(root: object, enable: str) -> Judgement:
    """It is mounted, and has no monitoring."""
    return Judgement(
        Verdict.HOST_LACKS,
        f"resctrl at {root} has no monitoring",
        f"if the CPUs can monitor, {enable}",
    )


SPLIT_UNSEEN = Judgement(
    Verdict.HOST_LACKS, resctrl.SPLIT_UNSEEN, resctrl.KNOW_OF_SPLITS
)


def no_rmid(in_use: int, rmids: int | None) -> Judgement:
    """There are more instances than the CPUs can monitor."""
    return Judgement(
        Verdict.HOST_LACKS,
        f"{in_use} of {'?' if rmids is None else rmids} RMIDs in use or in "
        "limbo",
        "other monitoring tools on this host (pqos, libvirt) hold some of "
        "them",
    )


def monitored(how: str) -> Judgement:
    """A thread can be in only one monitoring group."""
    return Judgement(
        Verdict.HOST_LACKS,
        f"its threads are in another tool's resctrl group ({how})",
        "read that group, or stop that tool",
    )


def helper_failed(why: str) -> Judgement:
    """The privileged helper did not do what it was asked."""
    return Judgement(
        Verdict.STALE,
        f"the privileged helper failed ({why})",
        "see [perf] privsep_helper, and the sample sudoers file",
    )


NOT_AN_OWN_EVENT = Judgement(
    Verdict.NOT_ENABLED,
    "the agent counts this instance itself, and not this event",
    "add it to [perf] own_events",
)
COUNTED_BY_LIBVIRT = Judgement(
    Verdict.PMU_TAKEN,
    "libvirt counts hardware events of this instance; others beside them "
    "would share the CPUs' counters, and libvirt does not scale",
    "set [perf] counters to auto; or take the hardware events out of "
    "[libvirt] enabled_perf_events and hard reboot the instance",
)
MEDIATED = Judgement(
    Verdict.PMU_TAKEN,
    "KVM gives the PMU to guests with a virtual one (enable_mediated_pmu), "
    "and the host can't count hardware events beside them",
    "load kvm_intel or kvm_amd with enable_mediated_pmu=0 to count them",
)
HYBRID = Judgement(Verdict.HOST_LACKS, machine.HYBRID)
AGENT_COUNTS = Judgement(
    Verdict.UNSEEN,
    "the agent counts this instance itself if its helper is allowed, which "
    "this command can't see",
    "run it as root; 'ceilometer-perf doctor' checks the helper",
)
UNMEASURED = Judgement(
    Verdict.IN_DOUBT,
    "the instance has not yet used enough CPU time to confirm its counters",
    "wait; or unset [perf] withhold_in_doubt",
)


def implausible(rate: str) -> Judgement:
    """A PMU that does not count what the instance did."""
    return Judgement(
        Verdict.IMPLAUSIBLE,
        f"the PMU reports {rate}, which no CPU does",
        "look whether it counts at all (a VM's PMU may only seem to be there) "
        "and who else uses it; then hard reboot the instance, or restart the "
        "agent if it counts the instance itself",
    )


def beyond(what: str) -> Judgement:
    """A monitor of caches or memory that leapt."""
    return Judgement(
        Verdict.IMPLAUSIBLE,
        f"the monitors report {what}",
        "wait for the next reading; if it happens often, update the kernel",
    )


def miscounted(coverage: float) -> Judgement:
    """Own counters that saw more or less than there was."""
    return Judgement(
        Verdict.MISCOUNTED,
        f"the agent's own counters saw {coverage:.1%} of the CPU time that "
        "the instance used",
        "the next cycle opens them again",
    )


def took_turns(share: float) -> Judgement:
    """Own counters that counted too small a part to be scaled."""
    return Judgement(
        Verdict.MULTIPLEXED,
        f"the event was on a counter for {share:.1%} of the time",
        "shorten [perf] own_events, stop other users of the PMU, or lower "
        "[perf] min_running",
    )


_FORBIDDEN = Judgement(
    Verdict.REFUSED,
    "the kernel does not let the helper count (perf_event_paranoid above 2 "
    "asks for more than CAP_PERFMON; so may a container or a security module)",
    "set sysctl kernel.perf_event_paranoid=2, with which users may count what "
    "their own processes do; or [ceilometer_perf_counting] capabilities = "
    "CAP_PERFMON, CAP_SYS_ADMIN, with which the helper may do nearly anything",
)
_NO_FILES = Judgement(
    Verdict.REFUSED,
    "the helper may open no more files, and needs one per event and thread",
    "raise LimitNOFILE of the agent's service, or shorten [perf] own_events",
)
_NO_EVENT = Judgement(
    Verdict.HOST_LACKS,
    "the CPUs can't count it (no PMU, or none that has the event)",
)
_NOT_COUNTED = {
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EMFILE: _NO_FILES,
    errno.ENFILE: _NO_FILES,
    errno.ENOENT: _NO_EVENT,
    errno.ENODEV: _NO_EVENT,
    errno.EINVAL: Judgement(
        Verdict.HOST_LACKS,
        "the CPUs can't count it, or Linux is older than 5.13",
    ),
    errno.EOPNOTSUPP: _NO_EVENT,
    errno.EBUSY: Judgement(
        Verdict.PMU_TAKEN, "another user has reserved the PMU"
    ),
    errno.ENOSYS: Judgement(
        Verdict.HOST_LACKS,
        "the kernel has no perf_event_open, or a seccomp filter hides it",
    ),
    errno.ESRCH: NOT_RUNNING,
    errno.EAGAIN: Judgement(
        Verdict.STALE,
        "its threads start faster than they can be counted",
        "the next cycle tries again",
    ),
}


def not_counted(number: int) -> Judgement:
    """Of own counters, by the error number of perf_event_open(2)."""
    return _NOT_COUNTED.get(
        number,
        Judgement(
            Verdict.STALE, f"the kernel does not count: {os.strerror(number)}"
        ),
    )
