# SPDX-License-Identifier: Apache-2.0
"""Which CPUs guests get, and whether everything else keeps off them."""

from ceilometer_perf import cpus
from ceilometer_perf.host import cpu_sets, threads
from ceilometer_perf.host.cpu_sets import CPUs
from ceilometer_perf.host.realtime.condition import (
    Condition,
    Found,
    State,
    counted,
    covers,
    spares,
)
from ceilometer_perf.host.realtime.host import CPU, Host

GRUB = (
    "add it to GRUB_CMDLINE_LINUX in /etc/default/grub, write GRUB's "
    "configuration (update-grub or grub2-mkconfig) and reboot"
)

ISOLCPUS_FLAGS = frozenset({"domain", "managed_irq", "nohz"})


def _dedicated(host: Host) -> Found:
    if host.conf is None:
        text = f"no nova.conf found; isolated: {cpus.text(host.isolated)}"
        return Found(None, text if host.isolated else "no nova.conf found")
    dedicated = host.conf.dedicated_cpus
    if not dedicated:
        return Found(False, "not set")
    text = cpus.text(dedicated)
    # Nova itself turns those off that no guest has.
    off = host.conf.power_management == "cpu_state"
    there = host.cpu_list(f"{CPU}/present") if off else host.online
    if there and not dedicated <= there:
        lost = cpus.text(dedicated - there)
        return Found(False, f"{text}, of which {lost} is not online")
    if dedicated == host.online:
        return Found(False, f"{text}, which leaves no CPU to the host")
    return Found(True, text)


def _shared(host: Host) -> Found:
    if host.conf is None:
        return Found(None, "no nova.conf found")
    shared = host.conf.shared_cpus
    if not shared:
        return Found(True, "not set")
    both = shared & host.isolated
    text = cpus.text(shared)
    if both:
        return Found(False, f"{text}, of which {cpus.text(both)} is isolated")
    return Found(True, text)


def _power_management(host: Host) -> Found:
    if host.conf is None:
        return Found(None, "no nova.conf found")
    strategy = host.conf.power_management
    return Found(strategy != "cpu_state", strategy or "off")


def _isolcpus(host: Host) -> Found:
    return covers(host.isolated, host, "isolated")


def _managed(host: Host) -> Found:
    words = host.boot.get("isolcpus", "").split(",")
    if "managed_irq" not in words:
        return Found(False, "isolcpus without managed_irq")
    named = ",".join(word for word in words if word not in ISOLCPUS_FLAGS)
    found = host.listed_at_boot(named)
    return covers(found, host, "isolcpus=managed_irq")


def _nohz_full(host: Host) -> Found:
    return covers(host.nohz_full, host, "nohz_full")


def _rcu_nocbs(host: Host) -> Found:
    # Without a list, the CPUs may be offloaded later; none is at boot.
    named = host.listed_at_boot(host.boot.get("rcu_nocbs", ""))
    offloaded: CPUs = named | (host.nohz_full or frozenset())
    return covers(offloaded, host, "offloaded")


def _irqaffinity(host: Host) -> Found:
    found = host.cpu_mask("proc/irq/default_smp_affinity")
    return spares(found, host, "default")


def _interrupts(host: Host) -> Found:
    if not (host.proc / "irq").is_dir():
        return Found(None, "no /proc/irq")
    found = list(threads.interrupts_on(host.proc, host.cpus))
    if not found:
        return Found(True, "none")
    names = (f"{each.number} ({each.names[0]})" for each in found)
    return Found(False, counted("interrupt", names))


def _irqbalance(host: Host) -> Found:
    process = host.process("irqbalance")
    if process is None:
        return Found(True, "not running")
    environ = host.text(f"proc/{process.name}/environ")
    if environ is None:
        return Found(
            None, "running; only root sees which CPUs it leaves alone"
        )
    banned = _banned(host, environ)
    return covers(banned, host, "irqbalance leaves alone")


def _banned(host: Host, environ: str) -> CPUs:
    """What irqbalance is told to leave alone, or finds isolated itself."""
    told = dict(word.partition("=")[::2] for word in environ.split("\0"))
    # Of old, but it counts where there are both.
    if mask := told.get("IRQBALANCE_BANNED_CPUS"):
        return cpu_sets.parse_mask(mask) or frozenset()
    if named := told.get("IRQBALANCE_BANNED_CPULIST"):
        return host.listed_at_boot(named)
    return host.isolated | (host.nohz_full or frozenset())


def _workqueues(host: Host) -> Found:
    found = host.cpu_mask("sys/devices/virtual/workqueue/cpumask")
    return spares(found, host, "unbound work")


def _threads(host: Host) -> Found:
    # Where a guest's own threads are is between it and Nova: guest check.
    guests = threads.guests(host.proc)
    using = threads.threads_on(host.proc, host.cpus)
    found = [t for t in using if not {t.pid, t.serves} & guests]
    if not found:
        return Found(True, "none")
    return Found(False, counted("thread", (each.name for each in found)))


CONDITIONS = (
    Condition(
        name="cpu_dedicated_set",
        look=_dedicated,
        right="online CPUs, without those that the host itself needs",
        why="Nova pins the vCPUs of realtime guests to these, and has no "
        "PCPU in Placement without them",
        remedy="set [compute] cpu_dedicated_set in nova.conf, with CPU 0 and "
        "its siblings left out, and restart nova-compute",
    ),
    Condition(
        name="cpu_shared_set",
        look=_shared,
        right="none of the isolated CPUs",
        why="the scheduler does not balance isolated CPUs: instances without "
        "pins, and emulator threads that share, all stay on one of them",
        remedy="take the isolated CPUs out of [compute] cpu_shared_set",
    ),
    Condition(
        name="cpu_power_management",
        look=_power_management,
        right="off, or the strategy governor",
        why="taking a CPU off or on stops all CPUs for a moment, each time "
        "another pinned instance starts or stops",
        remedy="set [libvirt] cpu_power_management_strategy = governor, or "
        "cpu_power_management = false",
    ),
    Condition(
        name="isolcpus",
        look=_isolcpus,
        right="{cpus}",
        why="the scheduler otherwise puts other threads on the guests' CPUs",
        remedy="boot with isolcpus=managed_irq,domain,{cpus} (tuned's profile "
        f"realtime-virtual-host does): {GRUB}",
        of_cpus=True,
    ),
    Condition(
        name="managed_irq",
        look=_managed,
        right="isolcpus=managed_irq with {cpus}",
        why="interrupts of NVMe disks and of network cards with many queues "
        "are placed by the kernel and can't be moved later",
        remedy="boot with isolcpus=managed_irq,domain,{cpus} "
        "(isolate_managed_irq=Y in tuned's variables)",
        otherwise=State.WARNING,
        of_cpus=True,
    ),
    Condition(
        name="nohz_full",
        look=_nohz_full,
        right="{cpus}",
        why="the tick interrupts a vCPU 100 to 1000 times a second; CPU 0 "
        "always keeps it",
        remedy="boot with nohz=on nohz_full={cpus}, with a kernel that has "
        "CONFIG_NO_HZ_FULL",
        of_cpus=True,
    ),
    Condition(
        name="rcu_nocbs",
        look=_rcu_nocbs,
        right="{cpus}",
        why="the kernel's RCU callbacks otherwise run on the guests' CPUs; "
        "nohz_full includes it",
        remedy="boot with rcu_nocbs={cpus}",
        of_cpus=True,
    ),
    Condition(
        name="irqaffinity",
        look=_irqaffinity,
        right="none of {cpus}",
        why="new interrupts, of a device that is plugged in, go to the "
        "default CPUs",
        remedy="boot with irqaffinity= and the CPUs of the host, or write "
        "their mask to /proc/irq/default_smp_affinity",
        of_cpus=True,
    ),
    Condition(
        name="interrupts",
        look=_interrupts,
        right="no interrupt at {cpus}",
        why="each runs its handler in place of the vCPU",
        remedy="write the host's CPUs to /proc/irq/N/smp_affinity_list; what "
        "refuses that is managed: boot with isolcpus=managed_irq",
        of_cpus=True,
    ),
    Condition(
        name="irqbalance",
        look=_irqbalance,
        right="not running, or it leaves {cpus} alone",
        why="it moves interrupts to the CPUs with the least of them, every "
        "ten seconds",
        remedy="set IRQBALANCE_BANNED_CPULIST={cpus} in its environment file "
        "and restart it, or disable it",
        of_cpus=True,
    ),
    Condition(
        name="workqueues",
        look=_workqueues,
        right="none of {cpus}",
        why="the kernel's unbound work, such as writing files back, runs on "
        "any of these",
        remedy="write the mask of the host's CPUs to "
        "/sys/devices/virtual/workqueue/cpumask, or boot with isolcpus",
        of_cpus=True,
    ),
    Condition(
        name="threads",
        look=_threads,
        right="no thread on {cpus} that could run elsewhere",
        why="a thread of the host delays the vCPU, or starves behind it",
        remedy="isolate the CPUs at boot; give services CPUAffinity= in "
        "/etc/systemd/system.conf; move the rest with taskset -p",
        of_cpus=True,
    ),
)
