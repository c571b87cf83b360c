# SPDX-License-Identifier: Apache-2.0
"""Whether this host's KVM can give its guests a virtual PMU."""

from pathlib import Path

from ceilometer_perf.host.kernel_files import text


def is_possible(sys_dir: Path = Path("/sys")) -> bool:
    """As KVM decides it, by what the kernel says of itself.

    x86 has none for hybrid CPUs, whose PMUs are called otherwise, nor with
    kvm's ``enable_pmu`` off, which kernels before 5.17 don't have. Arm has
    one where all CPUs have the same PMU.
    """
    if not (sys_dir / "module/kvm").exists():
        return False
    pmus = sys_dir / "bus/event_source/devices"
    if (pmus / "cpu").exists():
        return text(sys_dir / "module/kvm/parameters/enable_pmu") != "N"
    return len(list(pmus.glob("armv8_*"))) == 1
