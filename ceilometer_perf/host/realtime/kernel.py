# SPDX-License-Identifier: Apache-2.0
"""The kernel: its scheduler, and what it does on every CPU."""

import re

from ceilometer_perf.host.realtime.condition import (
    Condition,
    Found,
    State,
    listed,
    spares,
    sysctl,
    value,
)
from ceilometer_perf.host.realtime.host import Host

FAIR_SERVER = (6, 12)  # the first Linux with one, instead of throttling
FAIR = "sys/kernel/debug/sched/fair_server"
PROFILES = ("realtime-virtual-host", "cpu-partitioning")


def _preempt_rt(host: Host) -> Found:
    release = host.text("proc/sys/kernel/osrelease")
    version = host.text("proc/version")
    if version is None:
        return Found(None, "no /proc/version")
    realtime = host.text("sys/kernel/realtime") == "1"
    if realtime or "PREEMPT_RT" in version:
        return Found(True, f"{release} with PREEMPT_RT")
    model = re.search(r"\bPREEMPT\w*", version)
    return Found(False, f"{release}, {model[0] if model else 'no preemption'}")


def _tuned(host: Host) -> Found:
    profile = host.text("etc/tuned/active_profile")
    if not profile:
        return Found(False, "no profile is active")
    running = host.process("tuned") is not None
    text = profile if running else f"{profile}, but tuned is not running"
    return Found(running and profile in PROFILES, text)


def _throttling(host: Host) -> Found:
    runtime = host.number("proc/sys/kernel/sched_rt_runtime_us")
    if runtime is None:
        return Found(None, "no /proc/sys/kernel/sched_rt_runtime_us")
    grouped = _groups(host).right is not True
    if runtime != -1 and host.release >= FAIR_SERVER and not grouped:
        return Found(True, f"{runtime}, not enforced since Linux 6.12")
    return Found(runtime == -1, str(runtime))


def _fair_server(host: Host) -> Found:
    if (0, 0) < host.release < FAIR_SERVER:
        return Found(True, "not in this kernel")
    read = {n: host.number(f"{FAIR}/cpu{n}/runtime") for n in host.cpus}
    known = {str(n): ns for n, ns in read.items() if ns is not None}
    if not known:
        return Found(None, f"can't read /{FAIR}: only root may, with debugfs")
    on = [f"CPU {n}: {ns} ns" for n, ns in known.items() if ns]
    return Found(not on, listed(on) if on else "0")


def _groups(host: Host) -> Found:
    if host.glob("sys/fs/cgroup/cpu*/cpu.rt_runtime_us"):
        return Found(False, "on: cgroups have cpu.rt_runtime_us")
    if host.config is None:
        return Found(None, "the kernel's configuration was not found")
    switch = host.boot.get("rt_group_sched")
    has = "CONFIG_RT_GROUP_SCHED=y" in host.config
    off = "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y" in host.config
    if has and switch != "0" and (switch or not off):
        return Found(False, "on: CONFIG_RT_GROUP_SCHED=y")
    return Found(True, "off")


def _timer_migration(host: Host) -> Found:
    found = host.number("proc/sys/kernel/timer_migration")
    if found is None:
        return Found(True, "not in this kernel")
    if found and host.nohz_full and host.cpus <= host.nohz_full:
        return Found(True, f"{found}, which spares nohz_full")
    return Found(not found, str(found))


def _watchdog(host: Host) -> Found:
    if host.text("proc/sys/kernel/watchdog") in {None, "0"}:
        return Found(True, "off")
    found = host.cpu_list("proc/sys/kernel/watchdog_cpumask")
    return spares(found, host, "watched")


def _machine_checks(host: Host) -> Found:
    folder = "sys/devices/system/machinecheck/machinecheck{}"
    found = {
        n: (
            host.text(f"{folder.format(n)}/ignore_ce"),
            host.number(f"{folder.format(n)}/check_interval"),
        )
        for n in host.cpus
    }
    polled = [
        f"CPU {n}, every {interval} s"
        for n, (ignored, interval) in sorted(found.items())
        if ignored != "1" and interval
    ]
    return Found(not polled, listed(polled) if polled else "not polled")


CONDITIONS = (
    Condition(
        name="kernel",
        look=_preempt_rt,
        right="PREEMPT_RT",
        why="without it the kernel's own sections have no upper limit: "
        "guests run, and most wake-ups are fast, but no latency is promised",
        remedy="install the distribution's realtime kernel (kernel-rt and "
        "kernel-rt-kvm, linux-image-rt-amd64, linux-realtime) and boot it",
        otherwise=State.WARNING,
    ),
    Condition(
        name="tuned",
        look=_tuned,
        right="realtime-virtual-host",
        why="the profile sets most of what is listed here, and sets it again "
        "after each boot",
        remedy="install tuned-profiles-nfv-host or its like, set "
        "isolated_cores={cpus} in "
        "/etc/tuned/realtime-virtual-host-variables.conf, then: tuned-adm "
        "profile realtime-virtual-host, and reboot",
        otherwise=State.WARNING,
    ),
    Condition(
        name="sched_rt_runtime_us",
        look=_throttling,
        right="-1",
        why="a vCPU that never sleeps is stopped for the rest of each "
        "second: 50 ms with the default, 950000",
        remedy=sysctl("kernel.sched_rt_runtime_us = -1"),
    ),
    Condition(
        name="fair_server",
        look=_fair_server,
        right="0 for each of {cpus}",
        why="since Linux 6.12 it gives a waiting thread of the host up to "
        "50 ms of each second of a vCPU that never sleeps",
        remedy=f"write 0 to /{FAIR}/cpuN/runtime of each, at every boot; "
        "keep other threads off these CPUs, since they now may starve",
        otherwise=State.WARNING,
        of_cpus=True,
    ),
    Condition(
        name="rt_group_sched",
        look=_groups,
        right="off",
        why="in a cgroup without a realtime budget, which is how libvirt "
        "creates them, no thread may become realtime: the guest does not "
        "start",
        remedy="boot a kernel without CONFIG_RT_GROUP_SCHED, or with "
        "rt_group_sched=0 (Linux 6.16)",
    ),
    Condition(
        name="timer_migration",
        look=_timer_migration,
        right="0, or {cpus} in nohz_full",
        why="timers of idle CPUs move to busy ones, such as a vCPU's",
        remedy=sysctl("kernel.timer_migration = 0"),
        otherwise=State.WARNING,
    ),
    Condition(
        name="nmi_watchdog",
        look=value(
            "proc/sys/kernel/nmi_watchdog", "0", absent="not in this kernel"
        ),
        right="0",
        why="it interrupts each CPU that it watches, and takes a hardware "
        "counter of all",
        remedy=sysctl("kernel.nmi_watchdog = 0"),
        otherwise=State.WARNING,
    ),
    Condition(
        name="watchdog",
        look=_watchdog,
        right="off, or none of {cpus}",
        why="the soft lockup detector runs a thread of highest priority on "
        "each CPU that it watches, every few seconds",
        remedy=sysctl("kernel.watchdog_cpumask = CPUS_OF_THE_HOST")
        + ", or boot with nosoftlockup",
        of_cpus=True,
    ),
    Condition(
        name="stat_interval",
        look=lambda host: _at_least(host, "proc/sys/vm/stat_interval", 10),
        right="10 or more",
        why="each CPU brings its memory statistics up to date in this many "
        "seconds",
        remedy=sysctl("vm.stat_interval = 10"),
        otherwise=State.WARNING,
    ),
    Condition(
        name="machine_checks",
        look=_machine_checks,
        right="not polled on {cpus}",
        why="corrected hardware errors are looked for on each CPU by a timer",
        remedy="write 1 to "
        "/sys/devices/system/machinecheck/machinecheckN/ignore_ce, or boot "
        "with mce=ignore_ce",
        otherwise=State.WARNING,
        of_cpus=True,
    ),
)


def _at_least(host: Host, path: str, least: int) -> Found:
    found = host.number(path)
    if found is None:
        return Found(None, f"no /{path}")
    return Found(found >= least, str(found))
