# SPDX-License-Identifier: Apache-2.0
"""The CPUs: how fast they wake, what shares a core, firmware, the clock."""

import os
import struct
from collections.abc import Iterator

from ceilometer_perf import cpus
from ceilometer_perf.host import kernel_files
from ceilometer_perf.host.cpu_sets import CPUs
from ceilometer_perf.host.realtime.condition import (
    Condition,
    Found,
    State,
    listed,
    value,
)
from ceilometer_perf.host.realtime.host import CPU, Host

SLOW = 2  # µs to leave an idle state; C1 takes that long
SMI_COUNT = 0x34  # MSR_SMI_COUNT of Intel's CPUs
CLOCKS = ("tsc", "arch_sys_counter", "timebase", "tod")


def _is_virtual(host: Host) -> Found:
    text = host.text("proc/cpuinfo")
    if text is None:
        return Found(None, "no /proc/cpuinfo")
    flags = next((x for x in text.splitlines() if x.startswith("flags")), "")
    virtual = "hypervisor" in flags.split()
    return Found(not virtual, "virtual machine" if virtual else "hardware")


def _idle_states(host: Host) -> Found:
    bound = _latency_bound(host)
    slow = [
        f"CPU {n}: {name} {latency} µs"
        for n in sorted(host.cpus)
        for name, latency in _states(host, n)
        if latency > SLOW and (bound is None or latency <= bound)
    ]
    if slow:
        return Found(False, listed(slow))
    driver = host.text(f"{CPU}/cpuidle/current_driver")
    return Found(True, f"none, driver {driver or 'unknown'}")


def _latency_bound(host: Host) -> int | None:
    """What a process, such as tuned, holds the whole host to, in µs."""
    try:
        # The kernel answers with 32 bits; opening it for that changes nothing.
        with (host.root / "dev/cpu_dma_latency").open("rb", 0) as file:
            return int(struct.unpack("=i", file.read(4))[0])
    except (OSError, struct.error):
        return None


def _states(host: Host, cpu: int) -> Iterator[tuple[str, int]]:
    """The idle states that a CPU may enter, and µs to leave them."""
    power = f"{CPU}/cpu{cpu}/power/pm_qos_resume_latency_us"
    # "n/a" tolerates none, 0 any.
    most = 0 if host.text(power) == "n/a" else host.number(power) or None
    for path in host.glob(f"{CPU}/cpu{cpu}/cpuidle/state*"):
        latency = kernel_files.number(path / "latency") or 0
        off = kernel_files.text(path / "disable") == "1"
        if not off and (most is None or latency <= most):
            yield kernel_files.text(path / "name") or path.name, latency


def _governor(host: Host) -> Found:
    path = f"{CPU}/cpu{{}}/cpufreq/scaling_governor"
    found = {n: host.text(path.format(n)) for n in sorted(host.cpus)}
    other = [
        f"CPU {n}: {governor}"
        for n, governor in found.items()
        if governor not in {None, "performance"}
    ]
    if other:
        return Found(False, listed(other))
    scaled = any(found.values())
    return Found(True, "performance" if scaled else "no frequency scaling")


def _siblings(host: Host) -> Found:
    lost = _threads_of_cores(host) - host.cpus
    text = cpus.text(lost)
    return Found(not lost, f"also used: {text}" if lost else "none outside")


def _threads_of_cores(host: Host) -> CPUs:
    path = f"{CPU}/cpu{{}}/topology/thread_siblings_list"
    sets = (host.cpu_list(path.format(n)) for n in host.cpus)
    return frozenset().union(*(found or frozenset() for found in sets))


def _smt(host: Host) -> Found:
    active = host.text(f"{CPU}/smt/active")
    if active is None:
        return Found(None, f"no /{CPU}/smt/active")
    return Found(active == "0", "on" if active == "1" else "off")


def _smi(host: Host) -> Found:
    # They stop all CPUs alike, and reading interrupts the one that is asked.
    for cpu in sorted(host.online - host.cpus):
        count = _smi_count(host, cpu)
        if count is not None:
            return Found(None, f"{count} since the CPU was reset")
    return Found(None, "can't read the counter: Intel, root, modprobe msr")


def _smi_count(host: Host, cpu: int) -> int | None:
    try:
        with (host.root / f"dev/cpu/{cpu}/msr").open("rb", 0) as file:
            data = os.pread(file.fileno(), 8, SMI_COUNT)
            return int(struct.unpack("<Q", data)[0]) & 0xFFFFFFFF
    except (OSError, struct.error):
        return None


CONDITIONS = (
    Condition(
        name="hardware",
        look=_is_virtual,
        right="hardware",
        why="the CPUs of a virtual machine are threads of another host, "
        "which takes them away at any time",
        remedy="use a physical host",
    ),
    Condition(
        name="idle_states",
        look=_idle_states,
        right=f"none of more than {SLOW} µs on {{cpus}}",
        why="a halted vCPU lets its CPU sleep, and waking takes that long",
        remedy="boot with intel_idle.max_cstate=1 processor.max_cstate=1, or "
        "have tuned hold force_latency; turn deep C-states off in the "
        "firmware",
        of_cpus=True,
    ),
    Condition(
        name="governor",
        look=_governor,
        right="performance",
        why="a CPU that changes its frequency stands still while it does, "
        "and is slow before",
        remedy="cpupower frequency-set -g performance, or tuned",
        of_cpus=True,
    ),
    Condition(
        name="siblings",
        look=_siblings,
        right="the other threads of their cores are among {cpus}",
        why="what runs on the other thread of a core takes half of it away",
        remedy="dedicate whole cores: see "
        "/sys/devices/system/cpu/cpuN/topology/thread_siblings_list",
        of_cpus=True,
    ),
    Condition(
        name="smt",
        look=_smt,
        right="off",
        why="two vCPUs on one core delay each other, which "
        "hw:cpu_thread_policy=isolate prevents for one flavor",
        remedy="boot with nosmt, turn it off in the firmware, or set "
        "hw:cpu_thread_policy=isolate in every flavor of this host",
        otherwise=State.WARNING,
    ),
    Condition(
        name="smi",
        look=_smi,
        right="none after boot",
        why="a system management interrupt stops all CPUs, for up to "
        "milliseconds; no kernel can prevent it",
        remedy="measure with rtla hwnoise or hwlatdetect; turn off power "
        "capping, USB emulation and memory scrubbing in the firmware",
        otherwise=State.WARNING,
    ),
    Condition(
        name="clocksource",
        look=value(
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            *CLOCKS,
        ),
        right="tsc",
        why="other clocks are devices: reading them takes microseconds",
        remedy="boot with tsc=reliable; if the kernel marked the TSC "
        "unstable, ask the firmware's vendor",
    ),
)
