# SPDX-License-Identifier: Apache-2.0
"""perf, libvirt's monitors and groups of our own tell one truth.

It is the CPU time of the guests' threads, out of which the lab's PMU and its
resctrl both make memory traffic and occupancy.
"""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import libvirt
import pytest
import tenacity

from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host import probe
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.monitors import Monitors
from ceilometer_perf.host.probe import virt
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.host.stats import monitor_stats, perf_stats
from ceilometer_perf.host.watching import Watching
from ceilometer_perf.rdt import libvirt_monitors
from ceilometer_perf.rdt.choice import Choice
from ceilometer_perf.rdt.groups import Groups
from ceilometer_perf.rdt.rates import Figures, Rates
from ceilometer_perf.rdt.usage import OCCUPANCY, TOTAL, Origin, Usage
from ceilometer_perf.reading import Guest as Polled
from ceilometer_perf.reading import Reading
from tests.functional.agent import wait_for
from tests.lab import MONITORS, Guest, Hardware, Lab

TRUTH = Hardware(domains=(0, 4), settling=0.1)

CQM = ("cmt", "mbmt", "mbml")
LIBVIRT = Guest("by-libvirt", "busy", events=CQM, extra=(MONITORS,))
RESCTRL = Guest("by-resctrl", "busy", events=CQM)
IDLE = Guest("idle", "idle", events=())


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True, resctrl=TRUTH) as lab:
        lab.start_all([LIBVIRT, RESCTRL, IDLE])
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
    domains = {guest.uuid: lab.domain(guest) for guest in guests}
    return {
        uuid: Polled(
            name=domain.name(),
            id=domain.ID(),
            xml=domain.XMLDesc(),
            realtime=False,
            slice=None,
        )
        for uuid, domain in domains.items()
    }


def session(lab: Lab) -> Session:
    return Session(lab.connection, (9, 0, 0))


def by_libvirt(lab: Lab) -> Usage:
    stats = monitor_stats(session(lab), [lab.domain(LIBVIRT)])
    found = libvirt_monitors.usage(
        lab.domain(LIBVIRT).ID(), stats[LIBVIRT.uuid]
    )
    assert found is not None
    return found


def used(lab: Lab, guest: Guest) -> int:
    """CPU time of its threads, in ns."""
    tasks = Path(f"/proc/{lab.qemu_pid(guest)}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def read(
    lab: Lab, groups: Groups, only: Origin, *guests: Guest
) -> Mapping[str, Usage]:
    """By instance UUID; each has to have this source."""
    counters, _ = perf_stats(session(lab), [lab.domain(g) for g in guests])
    now = time.monotonic()
    reading = Reading(now, now, running(lab, *guests), counters)
    connection = Connection(lab.uri_ro, 10)
    processes = Processes(lab.run_dir / "qemu")
    if only != "resctrl":  # with a helper, it would remove them
        groups = Groups(Resctrl(lab.resctrl_path), processes, None)
    choice = Choice(Monitors(lambda: connection), groups, processes, only)
    gated = Judged({}, None, since=datetime(2026, 11, 27, tzinfo=UTC))
    found = choice.read(reading, {guest.uuid: gated for guest in guests})
    connection.close()
    assert all(isinstance(answer, Usage) for answer in found.values()), found
    return {u: a for u, a in found.items() if isinstance(a, Usage)}


#: Who is read by which source alone.
READ_BY: Mapping[Origin, tuple[Guest, ...]] = {
    "perf": (LIBVIRT, RESCTRL),
    "libvirt": (LIBVIRT,),
    "resctrl": (RESCTRL,),
}
L3 = dict.fromkeys(TRUTH.domains, TRUTH.l3_bytes)


@tenacity.retry(
    # Occupancy is that of the last moment: how steady the guests then are
    # nobody can say.
    retry=tenacity.retry_if_exception_type(AssertionError),
    stop=tenacity.stop_after_attempt(5),
    reraise=True,
)
def test_all_three_agree(lab: Lab, groups: Groups) -> None:
    rates = {origin: Rates() for origin in READ_BY}

    def look() -> dict[Origin, Mapping[str, Figures]]:
        return {
            origin: {
                uuid: rates[origin].compute(uuid, time.monotonic(), usage, L3)
                for uuid, usage in read(lab, groups, origin, *guests).items()
            }
            for origin, guests in READ_BY.items()
        }

    read(lab, groups, "resctrl", RESCTRL)  # makes the group
    look()
    before = {g: (time.monotonic(), used(lab, g)) for g in READ_BY["perf"]}
    time.sleep(3)
    told = look()
    for guest, (since, then) in before.items():
        cpu = (used(lab, guest) - then) / 1e9 / (time.monotonic() - since)
        truth = {
            "cpu_l3_cache": cpu * TRUTH.working_set,
            "cpu_l3_cache.util": cpu * TRUTH.working_set
            / sum(L3.values()) * 100,
            "memory.bandwidth.total": cpu * 1e9 * TRUTH.bytes_per_ns,
            "memory.bandwidth.local": cpu * 1e9 * TRUTH.local_share,
        }  # fmt: skip
        sources = [told[origin] for origin in told if guest in READ_BY[origin]]
        assert len(sources) == 2
        for source in sources:
            found = source[guest.uuid].values.items()
            values = {key: figure.value for key, figure in found}
            assert values == pytest.approx(truth, rel=0.15)


def test_one_monitor_that_fails_does_not_hide_the_others(lab: Lab) -> None:
    domains = [lab.domain(LIBVIRT), lab.domain(RESCTRL)]
    answers = {"*vcpus_0/*/llc_occupancy": "Unavailable"}
    lab.change_resctrl(answers=answers)
    found = monitor_stats(session(lab), domains)
    assert set(found) == {RESCTRL.uuid, *_still_read(lab, domains)}
    assert not _occupancies(found.get(LIBVIRT.uuid, {}))
    lab.change_resctrl(answers={})
    assert _occupancies(monitor_stats(session(lab), domains)[LIBVIRT.uuid])
    assert set(monitor_stats(session(lab), domains)) == {
        LIBVIRT.uuid,
        RESCTRL.uuid,
    }


def _still_read(lab: Lab, domains: list[libvirt.virDomain]) -> set[str]:
    """Of libvirt's monitors: newer libvirts leave out what can't be read."""
    try:
        lab.connection.domainListGetStats(
            domains, libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
        )
    except libvirt.libvirtError:
        return set()
    return {LIBVIRT.uuid}


def _occupancies(stats: Mapping[str, object]) -> list[str]:
    return [k for k in stats if re.search(r"cache\.monitor.*\.bytes$", k)]


def test_libvirts_groups_are_left_to_libvirt(lab: Lab, groups: Groups) -> None:
    (refused,) = groups.read(running(lab, LIBVIRT)).values()
    assert isinstance(refused, Judgement)
    assert refused.verdict is Verdict.HOST_LACKS
    assert "another tool" in refused.reason
    assert by_libvirt(lab).sum(TOTAL)


def test_rmids_run_out(lab: Lab, groups: Groups) -> None:
    lab.change_resctrl(num_rmids=3)  # the default group, libvirt's, one more
    guests = running(lab, IDLE, RESCTRL)
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
