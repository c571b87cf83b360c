# SPDX-License-Identifier: Apache-2.0
"""The probe on hosts of many kinds, and its system call on this one."""

import dataclasses
import errno
import os
import pathlib
import platform
from typing import Any, Literal

import pytest
from oslo_config import cfg

from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host import perf_event
from ceilometer_perf.host.perf_event import Growth
from ceilometer_perf.host.probe import Probed, advice, probe, trials
from ceilometer_perf.host.probe import machine as machines
from ceilometer_perf.host.probe.counters import MOST
from ceilometer_perf.host.probe.virt import CacheBank
from tests.lab import pmu
from tests.unit.probe_cases import (
    CQM_TYPE,
    HARDWARE,
    HOSTS,
    ON_ITS_OWN,
    SECOND,
    SOFTWARE,
    FakeKernel,
    probed,
    virt,
)

CQM = ("cmt", "mbmt", "mbml")
ENOUGH = 10
RDT = "boot the kernel with rdt=cmt,mbmtotal,mbmlocal"


def reasons(report: Probed) -> dict[str, str | None]:
    return {v.event.name: v.reason for v in report.trials}


def works(report: Probed) -> dict[str, bool | None]:
    return {v.event.name: v.works for v in report.trials}


def test_hardware_events_are_those_of_the_lab() -> None:
    assert {EVENTS[name].kind for name in CQM} == {"intel_cqm"}
    # Those of the lab are held against the real libvirt.
    assert {e: EVENTS[e].config for e in HARDWARE} == pmu.HARDWARE_EVENTS


def test_intel() -> None:
    report = probed("intel", FakeKernel(counters=ENOUGH))
    assert report.safe() == HARDWARE + SOFTWARE
    assert "4.14" in str(reasons(report)["cmt"])
    assert report.machine.pmus == ("cpu",)
    assert report.machine.nmi_watchdog
    assert report.machine.resctrl == machines.ResctrlState(
        known=True, enable=RDT
    )
    assert report.virt.l3 == (CacheBank(0, 30 << 20, "0-15"),)
    assert report.virt.monitors == ("llc_occupancy",)


def test_a_vm_without_a_pmu() -> None:
    report = probed("vm", FakeKernel((1,)))
    assert report.safe() == SOFTWARE
    assert report.counters.number == 0
    assert "no PMU" in str(reasons(report)["cpu_cycles"])
    assert report.machine.pmus == ()
    assert not report.machine.resctrl.known
    assert report.virt.l3 == ()


def test_amd_with_two_caches() -> None:
    gone = ("stalled_cycles_backend", "bus_cycles")
    report = probed("amd", FakeKernel(missing=gone, counters=ENOUGH))
    assert set(HARDWARE) - set(report.safe()) == set(gone)
    assert "has no such event" in str(reasons(report)["bus_cycles"])
    assert [bank.size for bank in report.virt.l3] == [32 << 20] * 2
    assert report.machine.resctrl == machines.ResctrlState(
        known=True,
        mounted="/sys/fs/resctrl",
        features=("llc_occupancy", "mbm_total_bytes", "mbm_local_bytes"),
        rmids=256,
        in_use=4,
        enable=RDT,
    )


def test_an_old_kernel_has_intel_cqm() -> None:
    report = probed("cqm", FakeKernel((0, 1, CQM_TYPE), counters=ENOUGH))
    assert report.machine.cqm_type == CQM_TYPE
    assert set(CQM) <= set(report.safe())
    assert report.virt.error == "no libvirtd"
    refused = probed("cqm", FakeKernel((0, 1)))
    assert not set(CQM) & set(refused.safe())
    assert "has no such event" in str(reasons(refused)["cmt"])


@pytest.mark.parametrize(
    "code", [errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV]
)
def test_what_kernels_say_of_a_missing_event(code: int) -> None:
    report = probed("intel", FakeKernel(missing=("bus_cycles",), code=code))
    assert works(report)["bus_cycles"] is False
    assert "has no such event" in str(reasons(report)["bus_cycles"])


def test_a_user_of_whom_only_the_kernels_part_is_kept() -> None:
    kernel = FakeKernel(
        missing=("bus_cycles",), forbids=errno.EACCES, counters=ENOUGH
    )
    report = probed("intel", kernel, is_root=False)
    assert works(report)["cpu_cycles"] is True
    assert works(report)["bus_cycles"] is False
    assert report.counters.number is None
    assert "cpu_cycles" in report.safe()
    assert any("as root" in note for note in advice.notes(report))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_a_locked_down_user_cant_tell(code: int) -> None:
    report = probed("locked", FakeKernel(forbids_all=code), is_root=False)
    assert works(report)["cpu_cycles"] is works(report)["cpu_clock"] is None
    assert "perf_event_paranoid is 4" in str(reasons(report)["cpu_clock"])
    assert "run as root" in str(reasons(report)["cpu_clock"])
    assert works(report)["cmt"] is False
    assert report.safe() == ()
    assert "enabled_perf_events =\n" in advice.nova_conf(report)


def test_root_in_a_container_that_forbids_it() -> None:
    report = probed("locked", FakeKernel(forbids_all=errno.EPERM))
    assert works(report)["cpu_clock"] is False
    assert "container" in str(reasons(report)["cpu_clock"])


def test_a_kernel_without_the_call() -> None:
    report = probed("vm", FakeKernel(forbids_all=errno.ENOSYS))
    assert works(report)["cpu_clock"] is False
    assert "no perf_event_open" in str(reasons(report)["cpu_clock"])


def test_another_failure_is_no_verdict() -> None:
    report = probed("vm", FakeKernel(forbids_all=errno.EMFILE))
    assert works(report)["cpu_clock"] is None
    assert reasons(report)["cpu_clock"] == os.strerror(errno.EMFILE)


def test_an_old_libvirt_knows_fewer_events() -> None:
    report = probed("intel", FakeKernel(), version=(3, 1, 0))
    assert reasons(report)["cpu_clock"] == "it needs libvirt 3.2.0"
    assert not set(SOFTWARE) & set(report.safe())


# Counters


@pytest.mark.parametrize("counters", range(9))
def test_no_more_events_than_counters(counters: int) -> None:
    report = probed("intel", FakeKernel(counters=counters))
    kept = [name for name in report.safe() if name in HARDWARE]
    general = [name for name in HARDWARE if name != ON_ITS_OWN]
    # One that competes with none is kept, wherever it stands.
    assert set(kept) == {*general[:counters], ON_ITS_OWN}
    assert report.counters.number == counters + 1
    left = advice.left_out(report)
    assert "together with the others" in left["ref_cpu_cycles"]
    notes = " ".join(advice.notes(report))
    assert "nmi_watchdog=0" in notes
    before = HARDWARE[: HARDWARE.index(general[counters])]
    rivals = ", ".join(reversed(before))
    assert (f"first: {rivals} " if rivals else "something else") in notes


def test_counters_to_spare_are_counted() -> None:
    report = probed("intel", FakeKernel(counters=12))
    assert report.counters.number == 13
    assert probed("amd", FakeKernel(counters=99)).counters.number == MOST


# What opens and does not count


STUCK = dict.fromkeys(HARDWARE, 0)


def test_a_pmu_that_opens_and_never_counts() -> None:
    """As that of a virtual machine may."""
    report = probed("intel", FakeKernel(counts=STUCK, counters=ENOUGH))
    assert report.safe() == SOFTWARE
    left = advice.left_out(report)
    assert left["cpu_cycles"] == left["cache_misses"]
    assert left["cpu_cycles"] == (
        "it opens, and counts what no CPU does: 0 cpu_cycles in a second of "
        "CPU time"
    )
    assert report.counters.number == 0
    assert not any("drop one" in note for note in advice.notes(report))


def test_one_event_that_never_counts() -> None:
    kernel = FakeKernel(counts={"instructions": 0}, counters=ENOUGH)
    report = probed("intel", kernel)
    assert set(HARDWARE) - set(report.safe()) == {"instructions"}


def test_caches_may_rest() -> None:
    kernel = FakeKernel(counts={"cache_misses": 0}, counters=ENOUGH)
    assert set(HARDWARE) <= set(probed("intel", kernel).safe())


@pytest.mark.parametrize(
    ("cycles", "honest"),
    [
        (19_999_999, False),
        (20_000_000, True),
        (10_000_000_000, True),
        (10_000_000_001, False),
    ],
)
def test_the_slowest_and_the_fastest_clock(
    cycles: int, *, honest: bool
) -> None:
    same = dict.fromkeys(("cpu_cycles", "ref_cpu_cycles"), cycles)
    kernel = FakeKernel(counts=same, counters=ENOUGH)
    assert ("cpu_cycles" not in probed("intel", kernel).unfit) is honest


def test_what_others_count_is_no_lie() -> None:
    """Never on a counter: crowded out, if anything."""
    kernel = FakeKernel(counts=STUCK, running=0, counters=ENOUGH)
    assert probed("intel", kernel).unfit == {}


def test_a_lie_has_to_be_repeated() -> None:
    """A hypervisor may have held up the CPU."""
    for times, honest in (2, True), (3, False):
        kernel = FakeKernel(counters=ENOUGH)
        held_up = [
            Growth(0, SECOND, SECOND) for _ in range(times * len(HARDWARE))
        ]

        def count(
            event: Any, *, user_only: bool = False,
            held_up: list[Growth] = held_up,
        ) -> Growth:  # fmt: skip
            return held_up.pop() if held_up else Growth(SECOND, SECOND, SECOND)

        kernel.count = count  # type: ignore[method-assign]
        assert (probed("intel", kernel).unfit == {}) is honest


def test_a_user_sees_it_too() -> None:
    kernel = FakeKernel(counts=STUCK, forbids=errno.EACCES)
    report = probed("intel", kernel, is_root=False)
    assert set(report.unfit) == set(HARDWARE)


def test_this_kernel_counts_an_event_that_never_happens() -> None:
    """PERF_COUNT_SW_DUMMY, the software event 9, is made for that."""
    kernel = perf_event.Kernel()
    found = kernel.count((1, 9), user_only=True)
    assert found.count == 0
    assert found.running
    clock = (1, EVENTS["task_clock"].config)
    grown = kernel.count(clock, user_only=True).count
    assert grown >= 0.9e9 * perf_event.SECONDS


# CPUs of several kinds, and a PMU that guests take


def test_cpus_of_several_kinds() -> None:
    report = probed("hybrid", FakeKernel(counters=ENOUGH))
    assert report.safe() == SOFTWARE
    assert report.machine.pmus == ("cpu_atom", "cpu_core")
    left = advice.left_out(report)
    assert {left[name] for name in HARDWARE} == {machines.HYBRID}


def test_a_pmu_that_kvm_gives_to_guests(tmp_path: pathlib.Path) -> None:
    switch = tmp_path / "sys/module/kvm_intel/parameters/enable_mediated_pmu"
    switch.parent.mkdir(parents=True)
    for text, safe in ("Y\n", SOFTWARE), ("N\n", HARDWARE + SOFTWARE):
        switch.write_text(text)
        report = probe(
            virt("intel"),
            root=tmp_path,
            perf=FakeKernel(counters=ENOUGH),
            is_root=True,
        )
        assert report.safe() == safe
    switch.write_text("Y\n")
    assert "no guest with a virtual PMU" in str(
        machines.read(tmp_path).why_no_hardware()
    )


# nova.conf


@pytest.mark.parametrize(
    "host", ["intel", "vm", "amd", "cqm", "hybrid", "locked", "snc"]
)
def test_the_line_is_for_nova_conf(host: str, tmp_path: pathlib.Path) -> None:
    report = probed(host, FakeKernel())
    path = tmp_path / "nova.conf"
    path.write_text(advice.nova_conf(report))
    assert nova_conf.read(NovaFiles((path,))).perf_events == report.safe()
    lines = path.read_text().splitlines()
    comments = [
        name.strip(" ,")
        for line in lines
        if line.startswith("#   ")
        for name in line.removeprefix("#").rstrip(",").split(",")
    ]
    assert sorted(comments) == sorted(set(EVENTS) - set(report.safe()))
    reasons = [line for line in lines if line.startswith("# Left out (")]
    assert len(reasons) == len({*advice.left_out(report).values()})


def test_it_may_stand_in_a_file_that_has_the_section(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "nova.conf"
    text = advice.nova_conf(probed("vm", FakeKernel((1,))))
    path.write_text(f"[libvirt]\nvirt_type = kvm\n{text}[compute]\n")
    assert nova_conf.read(NovaFiles((path,))).perf_events == SOFTWARE
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt("virt_type"), group="libvirt")
    conf([], default_config_files=[str(path)])
    assert conf.libvirt.virt_type == "kvm"


# Cache and bandwidth


def judged(report: Probed) -> dict[str, bool | None]:
    return {source.name: source.works for source in report.rdt_sources()}


def remedy(report: Probed, name: str) -> str:
    (found,) = (s for s in report.rdt_sources() if s.name == name)
    assert found.reason
    return found.remedy or ""


def test_sources_of_cache_and_bandwidth() -> None:
    amd = probed("amd", FakeKernel())
    assert judged(amd) == {"perf": False, "libvirt": True, "resctrl": True}
    cqm = probed("cqm", FakeKernel((0, 1, CQM_TYPE)))
    assert judged(cqm) == {"perf": True, "libvirt": None, "resctrl": False}
    vm = probed("vm", FakeKernel((1,)))
    assert judged(vm) == {"perf": False, "libvirt": False, "resctrl": False}
    assert "rdt=cmt,mbmtotal,mbmlocal" in remedy(vm, "resctrl")
    intel = probed("intel", FakeKernel())
    assert judged(intel) == {"perf": False, "libvirt": False, "resctrl": False}
    assert "mount -t resctrl" in remedy(intel, "resctrl")
    assert "restart libvirtd" in remedy(intel, "libvirt")


def test_events_that_this_user_can_not_judge() -> None:
    kernel = FakeKernel((0, 1, CQM_TYPE), forbids_all=errno.EACCES)
    report = probed("cqm", kernel, is_root=False)
    assert judged(report)["perf"] is None
    assert "run as root" in str(report.rdt_sources()[0].reason)


def test_resctrl_that_monitors_nothing() -> None:
    report = changed("amd", features=())
    assert judged(report)["resctrl"] is judged(report)["libvirt"] is False
    assert "rdt=" in remedy(report, "resctrl")


def test_caches_that_are_split_and_a_kernel_that_does_not_know() -> None:
    report = probed("snc", FakeKernel())
    for source in report.rdt_sources()[1:]:
        # libvirt was not reached: what it says would be wrong, too.
        assert source.works is (None if source.name == "libvirt" else False)
    assert "sub-NUMA" in str(report.rdt_sources()[2].reason)
    assert "6.11" in remedy(report, "resctrl")
    there = dataclasses.replace(
        report.virt, error=None, monitors=("llc_occupancy",)
    )
    report = dataclasses.replace(report, virt=there)
    assert judged(report)["libvirt"] is False
    assert "sub-NUMA" in str(report.rdt_sources()[1].reason)


def test_arm_in_its_own_words(tmp_path: pathlib.Path) -> None:
    cpuinfo = tmp_path / "proc/cpuinfo"
    cpuinfo.parent.mkdir(parents=True)
    cpuinfo.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    (tmp_path / "proc/filesystems").write_text("nodev\tsysfs\n")
    report = probe(virt("vm"), root=tmp_path, perf=FakeKernel(), is_root=True)
    assert "MPAM" in remedy(report, "resctrl")
    assert "rdt=" not in remedy(report, "resctrl")


def test_no_rmid_is_left() -> None:
    report = changed("amd", rmids=4)
    (source,) = (s for s in report.rdt_sources() if s.name == "resctrl")
    assert source.works is False
    assert source.reason == "4 of 4 RMIDs are in use"


def test_libvirt_that_started_before_resctrl_was_mounted() -> None:
    report = probed("amd", FakeKernel())
    blind = dataclasses.replace(report.virt, monitors=())
    report = dataclasses.replace(report, virt=blind)
    assert judged(report)["libvirt"] is False
    assert remedy(report, "libvirt").startswith("restart libvirtd")


def changed(host: str, **changes: Any) -> Probed:
    """With another resctrl."""
    report = probed(host, FakeKernel())
    resctrl = dataclasses.replace(report.machine.resctrl, **changes)
    machine = dataclasses.replace(report.machine, resctrl=resctrl)
    return dataclasses.replace(report, machine=machine)


# Trees


def test_an_empty_tree(tmp_path: pathlib.Path) -> None:
    assert machines.read(tmp_path) == machines.Machine(
        kernel=None,
        paranoid=None,
        pmus=(),
        mediated_pmu=False,
        cqm_type=None,
        nmi_watchdog=False,
        resctrl=machines.ResctrlState(enable=RDT),
    )


def test_pmus_of_hybrid_and_other_cpus(tmp_path: pathlib.Path) -> None:
    devices = tmp_path / "sys/bus/event_source/devices"
    for name, kind in ("cpu_core", 4), ("armv8_pmuv3_0", 8), ("msr", 9):
        (devices / name).mkdir(parents=True)
        (devices / name / "type").write_text(f"{kind}\n")
    (devices / "armv8_pmuv3_0" / "cpus").write_text("0-3\n")
    assert machines.read(tmp_path).pmus == ("armv8_pmuv3_0", "cpu_core")


@pytest.mark.parametrize("text", ["", "x", "-1", "1" * 10])
def test_a_type_that_libvirt_would_not_read(
    text: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "devices/intel_cqm/type"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert machines.cqm_type(tmp_path) is None


def test_trees_are_real_files() -> None:
    assert {path.name for path in HOSTS.iterdir()} == {
        "amd", "cqm", "hybrid", "intel", "locked", "snc", "vm",
    }  # fmt: skip


# The system call


def test_this_kernel_counts_its_software_clock() -> None:
    clock = (1, EVENTS["task_clock"].config)
    perf_event.Kernel().try_open(clock, user_only=True)


def test_this_kernel_has_no_such_event() -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - errno tells
        perf_event.Kernel().try_open((1, 10_000), user_only=True)
    assert caught.value.errno in trials.UNSUPPORTED


def test_software_events_need_no_turns() -> None:
    clock = (1, EVENTS["cpu_clock"].config)
    try:
        share = perf_event.Kernel().share([clock] * 12)
    except PermissionError:  # only root may count what the kernel does
        assert os.geteuid() != 0
    else:
        assert share == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("byteorder", "first_byte", "last_byte"),
    [("little", 0b0010_0010, 0), ("big", 0b0100_0100, 0)],
)
def test_flags_lie_where_a_compiler_puts_them(
    byteorder: Literal["little", "big"], first_byte: int, last_byte: int
) -> None:
    """A bit field begins in the first byte, on any machine."""
    flags = sum(perf_event.flag(n, byteorder) for n in (1, 5))
    packed = flags.to_bytes(8, byteorder)
    assert (packed[0], packed[-1]) == (first_byte, last_byte)


def test_an_architecture_without_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(OSError, match="unknown on vax") as caught:
        perf_event.Kernel().try_open((1, 0))
    assert caught.value.errno == errno.ENOSYS
