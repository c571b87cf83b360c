# SPDX-License-Identifier: Apache-2.0
"""What a clock of perf counts and the kernel's CPU time has not."""

import os

import psutil

TICK = 1 / os.sysconf("SC_CLK_TCK")  # s; how exactly it is known


def stolen() -> float:
    """Seconds that interrupts and a hypervisor took of all CPUs so far."""
    times = psutil.cpu_times()
    return float(times.irq + times.softirq + times.steal)
