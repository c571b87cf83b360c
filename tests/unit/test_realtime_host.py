# SPDX-License-Identifier: Apache-2.0
"""The conditions of realtime guests, on hosts that have them or not."""

import dataclasses
import gzip
import struct
from pathlib import Path

import pytest

from ceilometer_perf.guest.nova_conf import NovaConf
from ceilometer_perf.host.probe.virt import Virt
from ceilometer_perf.host.realtime import (
    CONDITIONS,
    Answer,
    Host,
    State,
    examine,
)
from tests.unit.realtime_hosts import (
    BOUND,
    CONF,
    CPU,
    DEBUG,
    HALF_TUNED,
    KERNEL_THREAD,
    KVM,
    TUNED,
    UNTUNED,
    VM,
    Files,
    host,
    thread,
)

OK, WRONG, WARNING, UNKNOWN = State

GROUPS_OFF = """\
CONFIG_RT_GROUP_SCHED=y
CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y
"""
NAMES = tuple(condition.name for condition in CONDITIONS)


def answers(host: Host) -> dict[str, Answer]:
    return {answer.condition: answer for answer in examine(host)}


def states(host: Host, state: State) -> list[str]:
    return [n for n, answer in answers(host).items() if answer.state is state]


def one(root: Path, name: str, files: Files) -> tuple[State, str]:
    """The answer on the tuned host with some files changed."""
    found = answers(host(root, {**TUNED, **files}))[name]
    return found.state, found.found


def test_a_tuned_host_meets_all(tmp_path: Path) -> None:
    tuned = host(tmp_path, TUNED)
    assert states(tuned, WRONG) == states(tuned, WARNING) == []
    # What the firmware does is not to be seen.
    assert states(tuned, UNKNOWN) == ["smi"]


def test_a_half_tuned_host(tmp_path: Path) -> None:
    half = host(tmp_path, HALF_TUNED)
    assert states(half, WRONG) == [
        "isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity", "interrupts",
        "irqbalance", "threads", "transparent_hugepage", "idle_states",
    ]  # fmt: skip
    assert states(half, WARNING) == [
        "managed_irq", "kernel", "timer_migration", "hugepages", "smt",
    ]  # fmt: skip
    found = {name: answer.found for name, answer in answers(half).items()}
    assert found["isolcpus"] == "isolated: 2-3, without 6-7"
    assert found["nohz_full"] == "nohz_full: 2-3, without 6-7"
    assert found["irqaffinity"] == "default: 0-7"
    assert found["interrupts"] == "1 interrupt: 27 (eth0-rx-3)"
    assert found["irqbalance"] == "irqbalance leaves alone: 2-3, without 6-7"
    assert found["threads"] == "1 thread: rsyslogd"
    assert found["idle_states"] == (
        "CPU 2: C6 133 µs, CPU 3: C6 133 µs, CPU 6: C6 133 µs and 1 other"
    )
    assert found["hugepages"] == "node0: 16 x 1 GiB, 4 free; node1: none"
    # Linux 6.12 does not throttle.
    assert found["sched_rt_runtime_us"].startswith("950000, not enforced")


def test_an_untuned_host(tmp_path: Path) -> None:
    untuned = host(tmp_path, UNTUNED)
    assert set(states(untuned, OK)) == {
        "cpu_dedicated_set", "cpu_shared_set", "cpu_power_management",
        "irqbalance", "hardware", "siblings", "kvm", "libvirt", "qemu",
    }  # fmt: skip
    assert answers(untuned)["libvirtd"].found == (
        "virtqemud lacks CAP_SYS_NICE and CAP_SYS_RESOURCE"
    )
    # With groups, the kernel throttles still.
    assert answers(untuned)["sched_rt_runtime_us"].found == "950000"


def test_a_virtual_machine(tmp_path: Path) -> None:
    found = answers(
        host(tmp_path, VM, NovaConf(dedicated_cpus=frozenset({1})))
    )
    assert found["hardware"].found == "virtual machine"
    assert found["hardware"].state is WRONG
    assert found["nohz_full"].found == "nohz_full: not in this kernel"
    assert found["fair_server"].state is OK  # before 6.12 there is none
    assert found["governor"].found == "no frequency scaling"
    assert found["smi"].state is UNKNOWN
    assert found["threads"].found == "1 thread: init"


def test_an_empty_folder_is_a_host_of_which_nothing_is_known(
    tmp_path: Path,
) -> None:
    nothing = Host(Virt("qemu:///system", (9, 0, 0)), None, tmp_path)
    assert set(answers(nothing)) == set(NAMES)
    assert states(nothing, OK) == [
        "timer_migration", "nmi_watchdog", "transparent_hugepage", "ksm",
        "swap", "numa_balancing", "lapic_timer_advance",
        "kvmclock_periodic_sync", "nx_huge_pages",
    ]  # fmt: skip
    assert states(nothing, WRONG) == ["kvm"]


def test_every_condition_can_fail(tmp_path: Path) -> None:
    old = Virt("qemu:///system", (7, 0, 0), (7, 0, 0), hypervisor=(5, 0, 0))
    wrong_conf = NovaConf(
        shared_cpus=frozenset({0}), power_management="cpu_state"
    )
    no_kvm = {k: v for k, v in VM.items() if "kvm" not in k}
    odd = {**no_kvm, f"{CPU}/isolated": "0"}
    odd[f"{CPU}/cpu0/topology/thread_siblings_list"] = "0-1"
    hosts = (
        host(tmp_path / "untuned", UNTUNED),
        host(tmp_path / "half", HALF_TUNED),
        host(tmp_path / "odd", odd, wrong_conf, old),
    )
    lost = {n for h in hosts for n in states(h, WRONG) + states(h, WARNING)}
    # What the firmware does only a measurement can tell.
    assert set(NAMES) - lost == {"smi"}


def test_each_says_what_why_and_how(tmp_path: Path) -> None:
    for found in examine(host(tmp_path, UNTUNED)):
        texts = dataclasses.astuple(found)[2:]
        assert all(texts), found
        assert not any("{" in text or "\n" in text for text in texts), found
    assert "2-3,6-7" in answers(host(tmp_path, UNTUNED))["isolcpus"].remedy


# The CPUs that are to be kept free


def test_without_nova_they_are_the_isolated_ones(tmp_path: Path) -> None:
    found = answers(host(tmp_path, TUNED, None))
    assert found["cpu_dedicated_set"].state is UNKNOWN
    assert found["cpu_dedicated_set"].found == (
        "no nova.conf found; isolated: 2-3,6-7"
    )
    assert found["nohz_full"].state is OK


def test_without_any_what_depends_on_them_is_unknown(tmp_path: Path) -> None:
    found = answers(host(tmp_path, UNTUNED, NovaConf()))
    assert found["cpu_dedicated_set"].state is WRONG
    assert found["cpu_dedicated_set"].found == "not set"
    dependent = {c.name for c in CONDITIONS if c.of_cpus}
    assert all(found[name].state is UNKNOWN for name in dependent)
    assert found["isolcpus"].right == "CPUS"


@pytest.mark.parametrize(
    ("conf", "state", "text"),
    [
        ({2, 3}, OK, "2-3"),
        ({7, 8, 9}, WRONG, "7-9, of which 8-9 is not online"),
        (set(range(8)), WRONG, "0-7, which leaves no CPU to the host"),
    ],
)
def test_dedicated(
    tmp_path: Path, conf: set[int], state: State, text: str
) -> None:
    found = answers(
        host(tmp_path, TUNED, NovaConf(dedicated_cpus=frozenset(conf)))
    )["cpu_dedicated_set"]
    assert (found.state, found.found) == (state, text)


def test_nova_may_turn_dedicated_cpus_off(tmp_path: Path) -> None:
    conf = dataclasses.replace(CONF, power_management="cpu_state")
    off = {**TUNED, f"{CPU}/online": "0-5"}
    found = answers(host(tmp_path, off, conf))
    assert found["cpu_dedicated_set"].state is OK
    assert found["cpu_power_management"].state is WRONG
    conf = dataclasses.replace(CONF, power_management="governor")
    found = answers(host(tmp_path, off, conf))
    assert found["cpu_dedicated_set"].state is WRONG
    assert found["cpu_power_management"].found == "governor"
    assert found["cpu_power_management"].state is OK


def test_shared_cpus_are_balanced(tmp_path: Path) -> None:
    conf = dataclasses.replace(CONF, shared_cpus=frozenset({1, 2}))
    found = answers(host(tmp_path, TUNED, conf))["cpu_shared_set"]
    assert (found.state, found.found) == (
        WRONG, "1-2, of which 2 is isolated",
    )  # fmt: skip


def test_cpusets_isolate_too(tmp_path: Path) -> None:
    files = {
        f"{CPU}/isolated": "",
        "sys/fs/cgroup/cpuset.cpus.isolated": "2-3,6-7",
    }
    assert one(tmp_path, "isolcpus", files)[0] is OK


@pytest.mark.parametrize(
    ("option", "state"),
    [
        ("managed_irq,domain,2-3,6-7", OK),
        ("domain,managed_irq,2-N", OK),
        ("managed_irq,0-7:2/4", WARNING),
        ("managed_irq,2-7:2/4", OK),
        ("nohz,domain,2-3,6-7", WARNING),
        ("2-3,6-7", WARNING),
        ("", WARNING),
        ("managed_irq", WARNING),
        ("managed_irq,2-3:x/y", WARNING),
        ("managed_irq,2-3:1/0", WARNING),
    ],
)
def test_managed(tmp_path: Path, option: str, state: State) -> None:
    files = {"proc/cmdline": f"ro isolcpus={option} quiet"}
    assert one(tmp_path, "managed_irq", files)[0] is state


@pytest.mark.parametrize(
    ("words", "nohz_full", "state"),
    [
        ("rcu_nocbs=2-3,6-7", "", OK),
        ("rcu_nocbs=all", "", OK),
        ("rcu_nocbs", "", WRONG),
        ("rcu_nocbs=2-3", "6-7", OK),
        ("", "2-3,6-7", OK),
        ("", "(null)", WRONG),
    ],
)
def test_rcu(tmp_path: Path, words: str, nohz_full: str, state: State) -> None:
    files = {"proc/cmdline": words, f"{CPU}/nohz_full": nohz_full}
    assert one(tmp_path, "rcu_nocbs", files)[0] is state


@pytest.mark.parametrize(
    ("environ", "state"),
    [
        ("A=1\0IRQBALANCE_BANNED_CPULIST=2-3,6-7\0", OK),
        ("IRQBALANCE_BANNED_CPULIST=2\0", WRONG),
        ("A=1\0", OK),  # it finds the isolated ones itself
        ("IRQBALANCE_BANNED_CPUS=00000000,000000cc\0", OK),
        ("IRQBALANCE_BANNED_CPUS=c\0", WRONG),
        (
            "IRQBALANCE_BANNED_CPUS=c\0IRQBALANCE_BANNED_CPULIST=2-3,6-7\0",
            WRONG,
        ),
        (
            "IRQBALANCE_BANNED_CPUS=\0IRQBALANCE_BANNED_CPULIST=2-3,6-7\0",
            OK,
        ),
        ("IRQBALANCE_BANNED_CPUS=2-3\0", WRONG),
        (None, UNKNOWN),  # for root alone
    ],
)
def test_irqbalance(tmp_path: Path, environ: str | None, state: State) -> None:
    files = thread(905, "irqbalance", 5, "0-1,4-5")
    if environ is not None:
        files = {**files, "proc/905/environ": environ}
    assert one(tmp_path, "irqbalance", files)[0] is state


def test_threads(tmp_path: Path) -> None:
    files = {
        # Was there before it was moved away; may not come back.
        **thread(2001, "moved", 2, "0-1"),
        # A kernel thread that can be moved.
        **thread(2002, "rcuop/2", 3, "0-7", flags=KERNEL_THREAD),
        **thread(2003, "kworker/2:1", 2, "2", flags=KERNEL_THREAD | BOUND),
        **thread(2004, "a (b) c", 6, "6"),
        **thread(2005, "sshd", 7, "0-7"),
        **thread(2006, "sshd", 7, "0-7"),
        **thread(2007, "last", 7, "0-7"),
    }
    assert one(tmp_path, "threads", files) == (
        WRONG, "5 threads: rcuop/2, a (b) c, sshd, ...",
    )  # fmt: skip


# The kernel


@pytest.mark.parametrize(
    ("version", "realtime", "state"),
    [
        ("Linux version 6.12 #1 SMP PREEMPT_RT", "", OK),
        ("Linux version 5.14 #1 SMP PREEMPT", "1", OK),
        ("Linux version 6.1 #1 SMP PREEMPT_DYNAMIC", "0", WARNING),
        ("Linux version 6.1 #1 SMP", "0", WARNING),
    ],
)
def test_preempt_rt(
    tmp_path: Path, version: str, realtime: str, state: State
) -> None:
    files = {"proc/version": version, "sys/kernel/realtime": realtime}
    assert one(tmp_path, "kernel", files)[0] is state


@pytest.mark.parametrize(
    ("release", "runtime", "state"),
    [
        ("5.14.0-503.el9", "950000", WRONG),
        ("6.11.4", "950000", WRONG),
        ("6.12-rc1", "950000", OK),
        ("7.0.1", "950000", OK),
        ("5.14.0", "-1", OK),
        ("", "950000", WRONG),
    ],
)
def test_throttling(
    tmp_path: Path, release: str, runtime: str, state: State
) -> None:
    files = {
        "proc/sys/kernel/osrelease": release,
        f"boot/config-{release}": "CONFIG_HZ=1000\n",
        "proc/sys/kernel/sched_rt_runtime_us": runtime,
    }
    assert one(tmp_path, "sched_rt_runtime_us", files)[0] is state


def test_fair_server(tmp_path: Path) -> None:
    files = {f"{DEBUG}/fair_server/cpu6/runtime": "50000000"}
    assert one(tmp_path / "one", "fair_server", files) == (
        WARNING, "CPU 6: 50000000 ns",
    )  # fmt: skip
    hidden = {k: v for k, v in TUNED.items() if "debug" not in k}
    found = answers(host(tmp_path / "none", hidden))["fair_server"]
    assert found.state is UNKNOWN


@pytest.mark.parametrize(
    ("config", "words", "state"),
    [
        ("# CONFIG_RT_GROUP_SCHED is not set", "", OK),
        ("CONFIG_RT_GROUP_SCHED=y", "", WRONG),
        ("CONFIG_RT_GROUP_SCHED=y", "rt_group_sched=0", OK),
        (
            GROUPS_OFF,
            "",
            OK,
        ),
        (
            GROUPS_OFF,
            "rt_group_sched=1",
            WRONG,
        ),
    ],
)
def test_groups(tmp_path: Path, config: str, words: str, state: State) -> None:
    files = {"boot/config-6.12.0-rt": config, "proc/cmdline": words}
    assert one(tmp_path / "boot", "rt_group_sched", files)[0] is state
    files = {"boot/config-6.12.0-rt": "", "proc/cmdline": words}
    packed: Files = {**files, "proc/config.gz": gzip.compress(config.encode())}
    assert one(tmp_path / "gz", "rt_group_sched", packed)[0] is state
    broken: Files = {**files, "proc/config.gz": b"\x1f\x8b\x08"}
    assert one(tmp_path / "broken", "rt_group_sched", broken)[0] is UNKNOWN


def test_groups_of_old_cgroups(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu,cpuacct/cpu.rt_runtime_us": "950000"}
    assert one(tmp_path, "rt_group_sched", files)[0] is WRONG


@pytest.mark.parametrize(
    ("value", "nohz_full", "state"),
    [("0", "", OK), ("1", "2-3,6-7", OK), ("1", "2-3", WARNING)],
)
def test_timer_migration(
    tmp_path: Path, value: str, nohz_full: str, state: State
) -> None:
    files = {
        "proc/sys/kernel/timer_migration": value,
        f"{CPU}/nohz_full": nohz_full,
    }
    assert one(tmp_path, "timer_migration", files)[0] is state


@pytest.mark.parametrize(
    ("on", "mask", "state"),
    [("0", "0-7", OK), ("1", "0-1", OK), ("1", "0-2", WRONG)],
)
def test_watchdog(tmp_path: Path, on: str, mask: str, state: State) -> None:
    files = {
        "proc/sys/kernel/watchdog": on,
        "proc/sys/kernel/watchdog_cpumask": mask,
    }
    assert one(tmp_path, "watchdog", files)[0] is state


def test_a_profile_without_tuned(tmp_path: Path) -> None:
    gone = {k: v for k, v in TUNED.items() if not k.startswith("proc/900/")}
    found = answers(host(tmp_path, gone))["tuned"]
    assert found.found == "realtime-virtual-host, but tuned is not running"
    assert found.state is WARNING


# Processors


@pytest.mark.parametrize(
    ("bound", "resume", "disabled", "state"),
    [
        (2_000_000_000, "0", "0", WRONG),
        (2, "0", "0", OK),
        (2_000_000_000, "n/a", "0", OK),
        (2_000_000_000, "1", "0", OK),
        (2_000_000_000, "500", "0", WRONG),
        (2_000_000_000, "0", "1", OK),
    ],
)
def test_idle_states(
    tmp_path: Path, bound: int, resume: str, disabled: str, state: State
) -> None:
    files: dict[str, str | bytes] = {
        "dev/cpu_dma_latency": struct.pack("=i", bound)
    }
    for n in range(8):
        files[f"{CPU}/cpu{n}/power/pm_qos_resume_latency_us"] = resume
        files[f"{CPU}/cpu{n}/cpuidle/state1/disable"] = disabled
    assert one(tmp_path, "idle_states", files)[0] is state


def test_siblings(tmp_path: Path) -> None:
    files = {f"{CPU}/cpu3/topology/thread_siblings_list": "3,5"}
    assert one(tmp_path, "siblings", files) == (WRONG, "also used: 5")


def test_smi(tmp_path: Path) -> None:
    assert one(tmp_path / "7", "smi", {}) == (
        UNKNOWN, "7 since the CPU was reset",
    )  # fmt: skip
    files = {"dev/cpu/0/msr": b"short"}
    assert "can't read" in one(tmp_path / "short", "smi", files)[1]


# KVM and libvirt


@pytest.mark.parametrize(
    ("name", "text", "state"),
    [
        ("lapic_timer_advance", "Y", OK),
        ("lapic_timer_advance", "N", WARNING),
        ("lapic_timer_advance_ns", "-1", OK),
        ("lapic_timer_advance_ns", "0", WARNING),
        ("lapic_timer_advance_ns", "7000", OK),
    ],
)
def test_timer_advance(
    tmp_path: Path, name: str, text: str, state: State
) -> None:
    files = {k: v for k, v in TUNED.items() if "lapic" not in k}
    found = answers(host(tmp_path, {**files, f"{KVM}/{name}": text}))
    assert found["lapic_timer_advance"].state is state


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("000001ffffffffff", "virtqemud may"),
        ("0000000000800000", "virtqemud lacks CAP_SYS_RESOURCE"),
        ("0000000001000000", "virtqemud lacks CAP_SYS_NICE"),
        ("junk", "can't read /proc/950/status"),
    ],
)
def test_libvirtd(tmp_path: Path, bits: str, text: str) -> None:
    files = {"proc/950/status": f"Name:\tvirtqemud\nCapEff:\t{bits}\n"}
    assert one(tmp_path, "libvirtd", files)[1] == text


def test_libvirtd_that_is_not_running(tmp_path: Path) -> None:
    gone = {k: v for k, v in TUNED.items() if not k.startswith("proc/950/")}
    found = answers(host(tmp_path, gone))["libvirtd"]
    assert found.state is UNKNOWN


def test_versions(tmp_path: Path) -> None:
    old = Virt("x", (7, 9, 9), (7, 9, 9), hypervisor=(6, 2, 0))
    found = answers(host(tmp_path, TUNED, CONF, old))
    assert (found["libvirt"].state, found["qemu"].state) == (WRONG, OK)
    mute = Virt("x", (9, 0, 0), error="no answer")
    found = answers(host(tmp_path, TUNED, CONF, mute))
    assert (found["qemu"].state, found["qemu"].found) == (
        UNKNOWN, "no answer",
    )  # fmt: skip
