# SPDX-License-Identifier: Apache-2.0
"""perf, libvirt's monitors and groups of our own tell one truth.

It is the CPU time of the guests' threads, which the lab's PMU and its
resctrl both hand out as memory traffic.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest

from ceilometer_perf.host import probe
from ceilometer_perf.host.connection import Session
from ceilometer_perf.host.probe import virt
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.host.stats import monitor_stats, perf_stats
from ceilometer_perf.host.watching import Watching
from ceilometer_perf.reading import Guest as Polled
from ceilometer_perf.sources.rdt import monitors, perf
from ceilometer_perf.sources.rdt.groups import Groups
from ceilometer_perf.sources.rdt.rates import Rates
from ceilometer_perf.sources.rdt.usage import OCCUPANCY, TOTAL, Usage
from ceilometer_perf.verdicts import Judgement, Verdict
from tests.functional.agent import wait_for
from tests.lab import Guest, Hardware, Lab

TRUTH = Hardware(domains=(0, 4), settling=0.1, local_share=1.0)

MONITORS = """
<cputune>
  <cachetune vcpus='0'><monitor level='3' vcpus='0'/></cachetune>
  <memorytune vcpus='0'><monitor vcpus='0'/></memorytune>
</cputune>
"""
PERF = Guest("by-perf", "spin", events=("cmt", "mbmt", "mbml"))
LIBVIRT = Guest("by-libvirt", "spin", events=(), extra=(MONITORS,))
RESCTRL = Guest("by-resctrl", "spin", events=())


@dataclass(frozen=True)
class Running:
    name: str
    id: int
    realtime: bool = False
    xml: str = "<domain/>"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True, resctrl=TRUTH) as lab:
        lab.start_all([PERF, LIBVIRT, RESCTRL])
        yield lab


@pytest.fixture
def groups(lab: Lab) -> Iterator[Groups]:
    root = lab.resctrl_path
    # As root, without a helper.
    run = lab.run_dir / "qemu"
    made = Groups(Resctrl(root), Processes(run), Watching(root, run))
    yield made
    made.read({})
    lab.change_resctrl(num_rmids=64, answers={}, domains=TRUTH.domains)


def running(lab: Lab, *guests: Guest) -> Mapping[str, Polled]:
    return {
        guest.uuid: Running(guest.domain_name, lab.domain(guest).ID())
        for guest in guests
    }


def session(lab: Lab) -> Session:
    return Session(lab.connection, (9, 0, 0))


def by_perf(lab: Lab) -> Usage:
    stats = perf_stats(session(lab), [lab.domain(PERF)])
    found = perf.usage(lab.domain(PERF).ID(), stats[PERF.uuid])
    assert found is not None
    return found


def by_libvirt(lab: Lab) -> Usage:
    stats = monitor_stats(session(lab), [lab.domain(LIBVIRT)])
    found = monitors.usage(lab.domain(LIBVIRT).ID(), stats[LIBVIRT.uuid])
    assert found is not None
    return found


def used(lab: Lab, guest: Guest) -> int:
    """CPU time of its threads, in ns."""
    tasks = Path(f"/proc/{lab.qemu_pid(guest)}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def test_bandwidth_is_the_truth_by_each_source(
    lab: Lab, groups: Groups
) -> None:
    def by_resctrl(lab: Lab) -> Usage:
        (found,) = groups.read(running(lab, RESCTRL)).values()
        assert isinstance(found, Usage)
        return found

    sources: dict[Guest, Callable[[Lab], Usage]] = {
        PERF: by_perf,
        LIBVIRT: by_libvirt,
        RESCTRL: by_resctrl,
    }
    rates = Rates()
    l3 = {0: 1 << 20}
    by_resctrl(lab)  # makes the group
    start: dict[Guest, tuple[float, int]] = {}
    for guest, read in sources.items():
        now = time.monotonic()
        rates.compute(guest.uuid, now, read(lab), l3)
        start[guest] = now, used(lab, guest)
    time.sleep(3)
    for guest, read in sources.items():
        now = time.monotonic()
        found = rates.compute(guest.uuid, now, read(lab), l3).values
        values = {key: figure.value for key, figure in found.items()}
        since, before = start[guest]
        truth = (used(lab, guest) - before) / (now - since)
        bandwidth = values["memory.bandwidth.total"]
        assert bandwidth == pytest.approx(truth, rel=0.15), guest.name
        local = values["memory.bandwidth.local"]
        assert local == pytest.approx(bandwidth, rel=0.02)
        assert values["cpu_l3_cache"] > 0, guest.name
        assert 0 < values["cpu_l3_cache.util"] <= 100


def test_one_monitor_that_fails_does_not_hide_the_others(lab: Lab) -> None:
    domains = [lab.domain(LIBVIRT), lab.domain(RESCTRL)]
    answers = {"*vcpus_0/*/llc_occupancy": "Unavailable"}
    lab.change_resctrl(answers=answers)
    with pytest.raises(libvirt.libvirtError):
        lab.connection.domainListGetStats(
            domains, libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
        )
    assert set(monitor_stats(session(lab), domains)) == {RESCTRL.uuid}
    lab.change_resctrl(answers={})
    assert set(monitor_stats(session(lab), domains)) == {
        LIBVIRT.uuid,
        RESCTRL.uuid,
    }


def test_libvirts_groups_are_left_to_libvirt(lab: Lab, groups: Groups) -> None:
    (refused,) = groups.read(running(lab, LIBVIRT)).values()
    assert isinstance(refused, Judgement)
    assert refused.verdict is Verdict.HOST_LACKS
    assert "somebody else" in refused.reason
    assert by_libvirt(lab).sum(TOTAL)


def test_rmids_run_out(lab: Lab, groups: Groups) -> None:
    lab.change_resctrl(num_rmids=3)  # the default group, libvirt's, one more
    guests = running(lab, PERF, RESCTRL)
    # Those of earlier groups have to be clean first.
    wait_for(
        lambda: isinstance(groups.read(guests)[min(guests)], Usage),
        5,
        "an RMID is clean",
    )
    for _ in range(2):
        answers = groups.read(guests)
        (refused,) = (a for a in answers.values() if isinstance(a, Judgement))
        assert answers[max(guests)] is refused
        assert refused.verdict is Verdict.HOST_LACKS
        assert "3 of 3 RMIDs" in refused.reason


def test_unavailable_is_no_zero(lab: Lab, groups: Groups) -> None:
    lab.change_resctrl(answers={"*/mon_L3_04/llc_occupancy": "Unavailable"})
    (found,) = groups.read(running(lab, RESCTRL)).values()
    assert isinstance(found, Usage)
    assert found.banks[OCCUPANCY][4] is None
    assert found.sum(OCCUPANCY) is None
    assert found.sum(TOTAL) is not None


def test_probe_sees_the_labs_resctrl(
    lab: Lab, groups: Groups, tmp_path: Path
) -> None:
    groups.read(running(lab, RESCTRL))
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/fs").mkdir(parents=True)
    mounted = "resctrl /sys/fs/resctrl resctrl rw 0 0\n"
    (tmp_path / "proc/mounts").write_text(mounted)
    (tmp_path / "sys/fs/resctrl").symlink_to(lab.resctrl_path)
    report = probe.probe(virt.ask(lab.uri_ro), root=tmp_path)
    assert report.machine.resctrl.rmids == TRUTH.num_rmids
    assert report.machine.resctrl.in_use == 3  # the default group's, and two
    assert {"llc_occupancy", "mbm_total_bytes"} < set(report.virt.monitors)
    assert {s.name: s.works for s in report.rdt_sources()} == {
        "perf": False,
        "libvirt": True,
        "resctrl": True,
    }
