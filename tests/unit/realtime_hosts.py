# SPDX-License-Identifier: Apache-2.0
"""Hosts of realtime guests, as files of /proc, /sys and others.

Eight CPUs in two nodes, of which 2-3 and 6-7 are for guests; with SMT, each
CPU and the one four above it are threads of one core.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

from ceilometer_perf.guest.nova_conf import NovaConf
from ceilometer_perf.host.probe.virt import Virt
from ceilometer_perf.host.realtime import Host

Files = Mapping[str, str | bytes]

DEDICATED = frozenset({2, 3, 6, 7})
CONF = NovaConf(dedicated_cpus=DEDICATED, shared_cpus=frozenset({1, 5}))
VIRT = Virt("qemu:///system", (10, 0, 0), (10, 0, 0), hypervisor=(8, 2, 2))

SYS = "sys/devices/system"
CPU = f"{SYS}/cpu"
KVM = "sys/module/kvm/parameters"
DEBUG = "sys/kernel/debug/sched"
KERNEL_THREAD, BOUND = 0x00200000, 0x04000000


def thread(
    pid: int, name: str, cpu: int, allowed: str, *,
    tid: int | None = None, flags: int = 0, policy: int = 0, priority: int = 0,
) -> dict[str, str]:  # fmt: skip
    """A thread, the only one of its process unless it has a tid."""
    after = ["S", "1", "1", "1", "0", "-1", str(flags), *"0" * 29, str(cpu),
             str(priority), str(policy), "0"]  # fmt: skip
    folder = f"proc/{pid}/task/{tid or pid}"
    return {
        f"proc/{pid}/comm": name,
        f"{folder}/stat": f"{tid or pid} ({name}) {' '.join(after)}",
        f"{folder}/status": f"Name:\t{name}\nCpus_allowed_list:\t{allowed}\n",
    }


def every(cpus: range, files: Files) -> dict[str, str | bytes]:
    """Files of each CPU; ``{}`` is its number."""
    return {path.format(n): text for n in cpus for path, text in files.items()}


TUNED: Files = {
    "boot/config-6.12.0-rt": "# CONFIG_RT_GROUP_SCHED is not set\n",
    "dev/kvm": "",
    "dev/cpu_dma_latency": struct.pack("=i", 1),
    "dev/cpu/0/msr": bytes(0x34) + struct.pack("<Q", 7),
    "etc/tuned/active_profile": "realtime-virtual-host\n",
    "proc/cmdline": "ro isolcpus=managed_irq,domain,2-3,6-7 nohz=on "
    "nohz_full=2-3,6-7 rcu_nocbs=2-3,6-7 irqaffinity=0-1,4-5 nosmt=no",
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme tsc\n",
    "proc/version": "Linux version 6.12.0-rt #1 SMP PREEMPT_RT",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "proc/irq/default_smp_affinity": "33",
    "proc/irq/24/effective_affinity_list": "0",
    "proc/irq/24/nvme0q0/.": "",
    # Of a device that a guest has, and of one that has no handler.
    "proc/irq/25/effective_affinity_list": "2",
    "proc/irq/25/vfio-msix[0](0000:3b:02.0)/.": "",
    "proc/irq/26/effective_affinity_list": "3",
    "proc/sys/kernel/osrelease": "6.12.0-rt",
    "proc/sys/kernel/sched_rt_runtime_us": "-1",
    "proc/sys/kernel/timer_migration": "0",
    "proc/sys/kernel/nmi_watchdog": "0",
    "proc/sys/kernel/watchdog": "1",
    "proc/sys/kernel/watchdog_cpumask": "0-1,4-5",
    "proc/sys/kernel/numa_balancing": "0",
    "proc/sys/vm/stat_interval": "10",
    f"{CPU}/online": "0-7",
    f"{CPU}/present": "0-7",
    f"{CPU}/isolated": "2-3,6-7",
    f"{CPU}/nohz_full": "2-3,6-7",
    f"{CPU}/smt/active": "0",
    f"{CPU}/cpuidle/current_driver": "intel_idle",
    f"{SYS}/clocksource/clocksource0/current_clocksource": "tsc",
    f"{SYS}/node/node0/cpulist": "0-3",
    f"{SYS}/node/node0/hugepages/hugepages-1048576kB/nr_hugepages": "16",
    f"{SYS}/node/node0/hugepages/hugepages-1048576kB/free_hugepages": "4",
    f"{SYS}/node/node0/hugepages/hugepages-2048kB/nr_hugepages": "0",
    f"{SYS}/node/node1/cpulist": "4-7",
    f"{SYS}/node/node1/hugepages/hugepages-1048576kB/nr_hugepages": "16",
    f"{SYS}/node/node1/hugepages/hugepages-1048576kB/free_hugepages": "16",
    f"{SYS}/node/possible": "0-1",
    "sys/devices/virtual/workqueue/cpumask": "33",
    "sys/kernel/realtime": "1",
    "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]",
    "sys/kernel/mm/ksm/run": "2",
    f"{KVM}/halt_poll_ns": "200000",
    f"{KVM}/lapic_timer_advance": "Y",
    f"{KVM}/kvmclock_periodic_sync": "N",
    f"{KVM}/nx_huge_pages": "N",
    **every(range(8), {
        f"{CPU}/cpu{{}}/cpufreq/scaling_governor": "performance",
        f"{CPU}/cpu{{}}/cpuidle/state0/name": "POLL",
        f"{CPU}/cpu{{}}/cpuidle/state0/latency": "0",
        f"{CPU}/cpu{{}}/cpuidle/state0/disable": "0",
        f"{CPU}/cpu{{}}/cpuidle/state1/name": "C6",
        f"{CPU}/cpu{{}}/cpuidle/state1/latency": "133",
        f"{CPU}/cpu{{}}/cpuidle/state1/disable": "0",
        f"{CPU}/cpu{{}}/power/pm_qos_resume_latency_us": "0",
        f"{CPU}/cpu{{}}/topology/thread_siblings_list": "{}",
        f"{SYS}/machinecheck/machinecheck{{}}/ignore_ce": "1",
        f"{SYS}/machinecheck/machinecheck{{}}/check_interval": "300",
        f"{DEBUG}/fair_server/cpu{{}}/runtime": "0",
    }),
    **{f"{CPU}/cpu{n}/topology/thread_siblings_list": str(n)
       for n in range(8)},
    **thread(1, "systemd", 0, "0-1,4-5"),
    **thread(30, "migration/2", 2, "2", flags=KERNEL_THREAD | BOUND),
    **thread(900, "tuned", 1, "0-1,4-5"),
    **thread(950, "virtqemud", 4, "0-1,4-5"),
    "proc/950/status": "Name:\tvirtqemud\nCapEff:\t000001ffffffffff\n",
    # Beside its housekeeping vCPU, on CPU 3.
    **thread(4242, "qemu-kvm", 3, "3"),
    **thread(4243, "vhost-4242", 3, "3", flags=KERNEL_THREAD),
    **thread(4244, "irq/25-vfio-msix", 2, "2", flags=KERNEL_THREAD),
    **thread(4242, "CPU 1/KVM", 2, "2", tid=4250, policy=1, priority=1),
    "proc/4242/comm": "qemu-kvm",
}  # fmt: skip

#: Isolated at boot; the rest was forgotten, or was undone by an update.
HALF_TUNED: Files = {
    **TUNED,
    "dev/cpu_dma_latency": struct.pack("=i", 2_000_000_000),
    "proc/cmdline": "ro isolcpus=2-3 nohz_full=2-3 intel_pstate=disable",
    "proc/version": "Linux version 6.12.0 #1 SMP PREEMPT_DYNAMIC",
    "proc/sys/kernel/sched_rt_runtime_us": "950000",
    "proc/sys/kernel/timer_migration": "1",
    "proc/irq/default_smp_affinity": "ff",
    "proc/irq/27/effective_affinity_list": "6",
    "proc/irq/27/eth0-rx-3/.": "",
    "sys/kernel/realtime": "0",
    f"{CPU}/isolated": "2-3",
    f"{CPU}/nohz_full": "2-3",
    f"{CPU}/smt/active": "1",
    **{f"{CPU}/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}"
       for n in range(8)},
    f"{SYS}/node/node1/hugepages/hugepages-1048576kB/nr_hugepages": "0",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    **thread(905, "irqbalance", 5, "0-1,4-5"),
    "proc/905/environ": "LANG=C\0",
    **thread(2000, "rsyslogd", 7, "0-1,4-7"),
}  # fmt: skip

UNTUNED: Files = {
    **{path: text for path, text in TUNED.items()
       if "tuned" not in path and "machinecheck" not in path},
    "boot/config-6.12.0-rt": "CONFIG_RT_GROUP_SCHED=y\n",
    "dev/cpu_dma_latency": struct.pack("=i", 2_000_000_000),
    "proc/cmdline": "ro quiet",
    "proc/version": "Linux version 6.12.0 #1 SMP PREEMPT_DYNAMIC",
    "proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 file 9 0 -2\n",
    "proc/irq/default_smp_affinity": "ff",
    "proc/irq/24/effective_affinity_list": "3",
    "proc/sys/kernel/sched_rt_runtime_us": "950000",
    "proc/sys/kernel/timer_migration": "1",
    "proc/sys/kernel/nmi_watchdog": "1",
    "proc/sys/kernel/watchdog_cpumask": "0-7",
    "proc/sys/kernel/numa_balancing": "1",
    "proc/sys/vm/stat_interval": "1",
    f"{CPU}/isolated": "",
    f"{CPU}/nohz_full": "(null)",
    f"{CPU}/smt/active": "1",
    f"{SYS}/clocksource/clocksource0/current_clocksource": "hpet",
    "sys/devices/virtual/workqueue/cpumask": "ff",
    "sys/kernel/realtime": "0",
    "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
    "sys/kernel/mm/ksm/run": "1",
    f"{KVM}/halt_poll_ns": "0",
    f"{KVM}/lapic_timer_advance": "N",
    f"{KVM}/kvmclock_periodic_sync": "Y",
    f"{KVM}/nx_huge_pages": "Y",
    f"{SYS}/node/node0/hugepages/hugepages-1048576kB/nr_hugepages": "0",
    f"{SYS}/node/node1/hugepages/hugepages-1048576kB/nr_hugepages": "0",
    **every(range(8), {
        f"{CPU}/cpu{{}}/cpufreq/scaling_governor": "schedutil",
        f"{DEBUG}/fair_server/cpu{{}}/runtime": "50000000",
        f"{SYS}/machinecheck/machinecheck{{}}/ignore_ce": "0",
        f"{SYS}/machinecheck/machinecheck{{}}/check_interval": "300",
    }),
    **{f"{CPU}/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}"
       for n in range(8)},
    "proc/950/status": "Name:\tvirtqemud\nCapEff:\t0000000000000000\n",
    **thread(1, "systemd", 3, "0-7"),
}  # fmt: skip

#: Of a cloud: no idle states, frequencies, firmware, or debugfs to be seen.
VM: Files = {
    "dev/kvm": "",
    "proc/cmdline": "ro quiet",
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu hypervisor tsc\n",
    "proc/version": "Linux version 5.14.0 #1 SMP PREEMPT_DYNAMIC",
    "proc/irq/default_smp_affinity": "3",
    "proc/sys/kernel/osrelease": "5.14.0",
    "proc/sys/kernel/sched_rt_runtime_us": "950000",
    f"{CPU}/online": "0-1",
    f"{CPU}/isolated": "",
    "sys/module/kvm/parameters/halt_poll_ns": "200000",
    **thread(1, "init", 1, "0-1"),
}


def write(root: Path, files: Files) -> Path:
    """The files below a folder; a name that ends in ``/.`` is a folder."""
    for name, text in files.items():
        path = root / name
        if name.endswith("/."):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def host(
    root: Path,
    files: Files,
    conf: NovaConf | None = CONF,
    virt: Virt = VIRT,
) -> Host:
    return Host(virt, conf, write(root, files))
