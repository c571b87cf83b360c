# SPDX-License-Identifier: Apache-2.0
"""Break things under the real agent: no sample may say what is not true."""

import itertools
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ceilometer_perf.meters import METERS, PERF_KEYS
from tests.functional.agent import Agent, wait_for
from tests.functional.machine import has_used
from tests.lab import Guest, Lab
from tests.soak.measure import Spool, Truth

REALTIME = """<cputune>
  <vcpusched vcpus='0' scheduler='fifo' priority='1'/>
</cputune>"""
EVERYTHING = (
    "perf.hw.*", "perf.sw.*", "perf.coverage", "perf.withheld",
    "perf.derived.*",
)  # fmt: skip
CLOCK = "perf.sw.task_clock"
#: In seconds of CPU time: so that little of it says something.
FLOOR = "coverage_floor = 0.2"
WITHHELD = "perf.withheld"
COUNTERS = {meter.name for meter in METERS if meter.key in PERF_KEYS}

Sample = dict[str, Any]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        yield lab


def when(sample: Sample) -> datetime:
    return datetime.fromisoformat(sample["timestamp"])


def since(sample: Sample) -> str:
    return str(sample["resource_metadata"]["perf"]["since"])


def detached(agent: Agent) -> list[str]:
    return [line for line in agent.lines() if "detached" in line]


def withheld(agent: Agent, guest: Guest) -> list[tuple[int, dict[str, int]]]:
    """How many counters, and their verdicts, each time that it changed."""
    said = [
        (s["counter_volume"], s["resource_metadata"]["perf"]["verdicts"])
        for s in agent.samples()
        if (s["counter_name"], s["resource_id"]) == (WITHHELD, guest.uuid)
    ]
    return [key for key, _ in itertools.groupby(said)]


def clock_samples(agent: Agent, guest: Guest) -> list[Sample]:
    return [
        s
        for s in agent.samples()
        if s["counter_name"] == CLOCK and s["resource_id"] == guest.uuid
    ]


def test_coverage_and_derived_of_a_busy_guest(
    lab: Lab, tmp_path: Path
) -> None:
    guest = lab.start(Guest("busy-1", "busy"))
    with Agent(
        tmp_path, lab, meters=EVERYTHING, perf=FLOOR, installed=True
    ) as agent:
        coverage = agent.wait_for_samples(
            3, seconds=90, counter_name="perf.coverage"
        )
        ipc = agent.wait_for_samples(
            2, seconds=90, counter_name="perf.derived.ipc"
        )
    assert all(0.95 < s["counter_volume"] < 1.05 for s in coverage)
    # As the emulated PMU has it.
    assert all(
        s["counter_volume"] == pytest.approx(1.5, rel=0.05) for s in ipc
    )
    metadata = coverage[-1]["resource_metadata"]["perf"]
    assert metadata["source"] == "libvirt"
    assert metadata["coverage"] == coverage[-1]["counter_volume"]
    booted = (lab.run_dir / "qemu" / f"{guest.domain_name}.pid").stat()
    assert datetime.fromisoformat(
        metadata["since"]
    ).timestamp() == pytest.approx(booted.st_mtime, abs=0.001)


@pytest.mark.parametrize("restarts", [1, 3])
def test_libvirtd_restarted_under_a_busy_guest(
    lab: Lab, tmp_path: Path, restarts: int
) -> None:
    guest = lab.start(Guest("busy-1", "busy"))
    truth = Truth(lab, [guest])
    with (
        Agent(tmp_path, lab, meters=EVERYTHING) as agent,
        truth.watching(),
    ):
        agent.wait_for_samples(4, counter_name=CLOCK)
        for _ in range(restarts):
            lab.libvirtd.restart()
            time.sleep(1)
        wait_for(lambda: detached(agent), 20, "detached")
        told = len(agent.samples())
        time.sleep(4)
        assert [
            s for s in agent.samples()[told:] if s["counter_name"] in COUNTERS
        ] == []
        assert len(detached(agent)) == 1
        before = clock_samples(agent, guest)
        lab.reboot(guest)
        after = agent.wait_for_samples(len(before) + 4, counter_name=CLOCK)[
            len(before) :
        ]
        assert truth.untrue(Spool(agent).seen()) == []
    assert len({since(s) for s in before}) == 1
    assert len({since(s) for s in after}) == 1
    assert since(before[0]) < since(after[0])
    # libvirtd may open some before the others.
    first, *between, last = withheld(agent, guest)
    assert first == last == (0, {})
    assert between[-1] == (19, {"detached": 19})


def test_event_enabled_live(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start(Guest("busy-1", "busy", events=("task_clock",)))
    with Agent(tmp_path, lab, meters=EVERYTHING, perf=FLOOR) as agent:
        agent.wait_for_samples(2, counter_name=CLOCK)
        lab.domain(guest).setPerfEvents(
            {"cpu_clock": True}, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
        (line,) = wait_for(lambda: detached(agent), 20, "detached")
        agent.wait_for_samples(
            len(clock_samples(agent, guest)) + 3, counter_name=CLOCK
        )
    assert "perf.sw.cpu_clock: detached" in line
    names = {s["counter_name"] for s in agent.samples()}
    assert names == {CLOCK, "perf.coverage", WITHHELD}
    assert withheld(agent, guest) == [(0, {}), (1, {"detached": 1})]


def test_event_enabled_live_before_the_agent_came(
    lab: Lab, tmp_path: Path
) -> None:
    """The clock that is right is no evidence of the others."""
    guest = lab.start(Guest("busy-1", "busy", events=("task_clock",)))
    lab.domain(guest).setPerfEvents(
        {"cpu_cycles": True, "page_faults": True},
        libvirt.VIR_DOMAIN_AFFECT_LIVE,
    )
    for folder in tmp_path / "first", tmp_path / "restarted":
        folder.mkdir()
        with Agent(folder, lab, meters=EVERYTHING, perf=FLOOR) as agent:
            agent.wait_for_samples(3, counter_name=CLOCK)
            agent.wait_for_samples(1, counter_name="perf.coverage")
        names = {s["counter_name"] for s in agent.samples()}
        assert names == {CLOCK, "perf.coverage", WITHHELD}
        assert withheld(agent, guest) == [(2, {"detached": 2})]
    lab.reboot(guest)
    (tmp_path / "rebooted").mkdir()
    with Agent(tmp_path / "rebooted", lab, meters=EVERYTHING) as agent:
        agent.wait_for_samples(2, counter_name=CLOCK)
        assert withheld(agent, guest) == [(0, {})]


def test_agent_that_comes_after_everything_went_wrong(
    lab: Lab, tmp_path: Path
) -> None:
    right = Guest("right", "busy")
    restarted = lab.start(Guest("restarted", "busy"))
    has_used(lab, restarted, 0.5)
    lab.libvirtd.restart()
    lab.start(right)
    # So much that the agent's first look leaves no doubt.
    live = lab.start(Guest("live", "spin", events=()))
    has_used(lab, live, 3)
    lab.domain(live).setPerfEvents(
        {"task_clock": True, "cpu_cycles": True},
        libvirt.VIR_DOMAIN_AFFECT_LIVE,
    )
    with Agent(tmp_path, lab, meters=EVERYTHING, perf=FLOOR) as agent:
        agent.wait_for_samples(6, counter_name=CLOCK, resource_id=right.uuid)
        wait_for(lambda: len(detached(agent)) == 2, 60, "two detached")
        agent.wait_for_samples(
            2, seconds=90, counter_name="perf.coverage", resource_id=live.uuid
        )
    published = defaultdict(set)
    for sample in agent.samples():
        published[sample["resource_id"]].add(sample["counter_name"])
    assert published[right.uuid] >= COUNTERS
    for guest in (restarted, live):
        assert published[guest.uuid] <= {"perf.coverage", WITHHELD}
    assert withheld(agent, right) == [(0, {})]
    assert withheld(agent, restarted)[-1] == (19, {"detached": 19})
    assert withheld(agent, live)[-1] == (2, {"detached": 2})


def test_one_hung_guest_among_twenty(lab: Lab, tmp_path: Path) -> None:
    guests = [Guest(f"paused-{n}", "paused") for n in range(20)]
    lab.start_all(guests)
    hung, *others = guests
    with Agent(tmp_path, lab) as agent:
        agent.wait_for_samples(len(guests) * len(COUNTERS))
        os.kill(lab.qemu_pid(hung), signal.SIGSTOP)
        time.sleep(6)
        os.kill(lab.qemu_pid(hung), signal.SIGCONT)
        stamps = defaultdict(set)
        for sample in agent.samples():
            if sample["counter_name"] == CLOCK:
                stamps[sample["resource_id"]].add(sample["timestamp"])
    for guest in others:
        seen = sorted(stamps[guest.uuid])
        gaps = [
            (
                datetime.fromisoformat(b) - datetime.fromisoformat(a)
            ).total_seconds()
            for a, b in itertools.pairwise(seen)
        ]
        assert len(seen) >= 6
        assert max(gaps) < 2.5
    assert len({frozenset(stamps[guest.uuid]) for guest in others}) == 1


def test_realtime_guests_are_left_alone(lab: Lab, tmp_path: Path) -> None:
    realtime = lab.start(
        Guest(
            "realtime",
            "paused",
            extra=(REALTIME,),
        )
    )
    usual = lab.start(Guest("usual", "paused"))
    with Agent(
        tmp_path / "asked", lab, perf="poll_realtime_guests = true"
    ) as agent:
        agent.wait_for_samples(2, resource_id=realtime.uuid)
    with Agent(tmp_path / "default", lab) as agent:
        agent.wait_for_samples(3 * len(COUNTERS), resource_id=usual.uuid)
    assert {s["resource_id"] for s in agent.samples()} == {usual.uuid}
    (line,) = (x for x in agent.lines() if "ceilometer_perf" in x)
    assert "poll_realtime_guests" in line


def test_more_hardware_events_than_counters(lab: Lab, tmp_path: Path) -> None:
    many = lab.start(Guest("many", "paused"))
    few = lab.start(
        Guest("few", "paused", events=("cpu_cycles", "instructions"))
    )
    with Agent(
        tmp_path, lab, perf="hardware_counters = 4", meters=EVERYTHING
    ) as agent:
        agent.wait_for_samples(6, resource_id=few.uuid)
        agent.wait_for_samples(20, resource_id=many.uuid)
    names = {
        s["counter_name"]
        for s in agent.samples()
        if s["resource_id"] == many.uuid
    }
    software = {n for n in COUNTERS if n.startswith("perf.sw.")}
    assert names == {*software, WITHHELD}
    assert withheld(agent, many) == [(10, {"multiplexed": 10})]
    assert withheld(agent, few) == [(0, {})]
    (line,) = (x for x in agent.lines() if "ceilometer_perf" in x)
    assert "10 hardware events share 4 hardware counters" in line


def test_hung_libvirtd_costs_its_cycles_only(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start(Guest("busy-1", "busy"))
    truth = Truth(lab, [guest])
    with (
        Agent(
            tmp_path, lab, perf="libvirt_timeout = 2", meters=(CLOCK,)
        ) as agent,
        truth.watching(),
    ):
        agent.wait_for_samples(3)
        lab.libvirtd.kill(signal.SIGSTOP)
        wait_for(
            lambda: any("no answer" in line for line in agent.lines()),
            20,
            "a cycle without an answer",
        )
        time.sleep(2)
        before = clock_samples(agent, guest)
        lab.libvirtd.kill(signal.SIGCONT)
        agent.wait_for_samples(len(before) + 3, seconds=20)
        assert truth.untrue(Spool(agent).seen()) == []
    assert detached(agent) == []
