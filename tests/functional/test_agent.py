# SPDX-License-Identifier: Apache-2.0
"""The stock agent, our pollsters, a real libvirtd, real guests."""

import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.meters import METERS, PERF_KEYS
from tests.functional.agent import Agent, wait_for
from tests.lab import Guest, Lab
from tests.lab.rpc import GET_ALL_DOMAIN_STATS, CountingProxy
from tests.soak.measure import Spool, Truth

COUNTED = [meter for meter in METERS if meter.key in PERF_KEYS]
NAMES = {meter.name for meter in COUNTED}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        yield lab


def growth_per_second(samples: list[dict[str, object]]) -> float:
    first, last = samples[0], samples[-1]
    when = [datetime.fromisoformat(str(s["timestamp"])) for s in (first, last)]
    return (last["counter_volume"] - first["counter_volume"]) / (  # type: ignore[operator, no-any-return]
        when[1] - when[0]
    ).total_seconds()


def errors(agent: Agent) -> list[str]:
    """What Ceilometer or we say at that level."""
    return [x for x in agent.lines(at="ERROR") if "ceilometer" in x]


def test_every_meter_of_every_guest(lab: Lab, tmp_path: Path) -> None:
    guests = [Guest("busy-1", "busy"), Guest("paused-2", "paused")]
    lab.start_all(guests)
    truth = Truth(lab, guests)
    with Agent(tmp_path, lab, installed=True) as agent, truth.watching():
        agent.wait_for_samples(4 * len(guests) * len(COUNTED))
        assert truth.untrue(Spool(agent).seen()) == []
    by_instance: dict[str, dict[str, list[Any]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for sample in agent.samples():
        by_instance[sample["resource_id"]][sample["counter_name"]].append(
            sample
        )
    assert set(by_instance) == {str(guest.uuid) for guest in guests}
    for meters in by_instance.values():
        assert set(meters) == NAMES
    for meter in COUNTED:
        for meters in by_instance.values():
            volumes = [s["counter_volume"] for s in meters[meter.name]]
            assert volumes == sorted(volumes)
            for sample in meters[meter.name]:
                assert sample["counter_type"] == meter.type
                assert sample["counter_unit"] == meter.unit
    busy, paused = (
        growth_per_second(by_instance[str(guest.uuid)]["perf.sw.task_clock"])
        for guest in guests
    )
    assert busy > 2 * paused
    assert agent.lines() == []


@pytest.mark.parametrize("threads", [1, 0])
def test_two_calls_per_cycle(lab: Lab, tmp_path: Path, threads: int) -> None:
    """One to see who is there, one to read; those of the start apart."""
    guests = [Guest(f"paused-{n}", "paused") for n in range(3)]
    lab.start_all(guests)
    with (
        CountingProxy(lab.run_dir / "libvirt-sock-ro") as proxy,
        Agent(tmp_path, lab, uri=proxy.uri, threads=threads) as agent,
    ):
        agent.wait_for_samples(len(guests) * len(COUNTED))
        proxy.calls.clear()
        seen = len(agent.samples())
        agent.wait_for_samples(seen + 3 * len(guests) * len(COUNTED))
        agent._stop()
        calls = proxy.calls
    samples = agent.samples()[seen:]
    cycles = Counter((s["resource_id"], s["counter_name"]) for s in samples)
    assert {name for _, name in cycles} == NAMES
    assert calls.keys() == {GET_ALL_DOMAIN_STATS}
    most = max(cycles.values())
    assert 2 * (most - 1) <= calls[GET_ALL_DOMAIN_STATS] <= 2 * (most + 1)


def test_survives_a_killed_libvirtd(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start(Guest("busy-1", "busy"))
    with Agent(tmp_path, lab) as agent:
        agent.wait_for_samples(len(COUNTED))
        lab.libvirtd.kill(signal.SIGKILL)
        lab.libvirtd.start()
        # What the guest's counters say from here on is wrong, see test_gate;
        # those of guests that boot now are right.
        other = lab.start(Guest("busy-2", "busy"))
        agent.wait_for_samples(2 * len(COUNTED), resource_id=other.uuid)
        before = len(agent.samples())
        lab.reboot(guest)
        agent.wait_for_samples(before + 2 * len(COUNTED))
        assert agent.process.poll() is None


def test_a_libvirtd_that_hangs_beyond_keepalive(
    lab: Lab, tmp_path: Path
) -> None:
    lab.start(Guest("paused-1", "paused"))
    with Agent(tmp_path, lab, perf="libvirt_timeout = 1") as agent:
        agent.wait_for_samples(len(COUNTED))
        lab.libvirtd.kill(signal.SIGSTOP)
        wait_for(lambda: "earlier call" in agent.log.read_text(), 10, "a line")
        before = len(agent.samples())
        time.sleep(4)
        assert len(agent.samples()) == before
        lab.libvirtd.kill(signal.SIGCONT)
        agent.wait_for_samples(before + 2 * len(COUNTED))
    assert len(agent.lines()) <= 3
    assert errors(agent) == []


def test_waits_for_a_libvirtd_that_is_not_there_yet(
    lab: Lab, tmp_path: Path
) -> None:
    lab.libvirtd.kill(signal.SIGKILL)
    with Agent(tmp_path, lab) as agent:
        wait_for(
            lambda: (
                "no perf samples until it answers" in agent.log.read_text()
                if agent.log.exists()
                else False
            ),
            30,
            "a first cycle without libvirtd",
        )
        assert agent.samples() == []
        lab.libvirtd.start()
        lab.start(Guest("paused-1", "paused"))
        agent.wait_for_samples(2 * len(COUNTED))
    assert len(agent.lines()) == 1
    assert errors(agent) == []


def test_odd_domains_cost_only_themselves(lab: Lab, tmp_path: Path) -> None:
    good = lab.start(Guest("good", "paused"))
    lab.start(Guest("stranger", "paused", metadata=False))
    few = lab.start(Guest("few", "paused", events=("cpu_clock",)))
    gone = lab.start(Guest("gone", "paused"))
    with Agent(tmp_path, lab) as agent:
        agent.wait_for_samples(len(COUNTED), resource_id=str(gone.uuid))
        lab.destroy(gone)
        seen = len(agent.wait_for_samples(1, resource_id=str(good.uuid)))
        agent.wait_for_samples(
            seen + 3 * len(COUNTED), resource_id=str(good.uuid)
        )
        meters = Counter(
            (s["resource_id"], s["counter_name"]) for s in agent.samples()
        )
    assert {uuid for uuid, _ in meters} == {
        str(good.uuid),
        str(few.uuid),
        str(gone.uuid),
    }
    assert {name for uuid, name in meters if uuid == str(few.uuid)} == {
        "perf.sw.cpu_clock"
    }
    assert agent.lines() == errors(agent) == []


def test_unknown_and_repeated_names_in_polling_yaml(
    lab: Lab, tmp_path: Path
) -> None:
    guest = lab.start(Guest("paused-1", "paused"))
    meters = ("perf.sw.cpu_clock", "perf.sw.cpu_clock", "perf.hw.no_such")
    with Agent(tmp_path, lab, meters=meters) as agent:
        agent.wait_for_samples(3, resource_id=str(guest.uuid))
    assert {s["counter_name"] for s in agent.samples()} == {
        "perf.sw.cpu_clock"
    }
    stamps = [s["timestamp"] for s in agent.samples()]
    assert len(stamps) == len(set(stamps))
    (line,) = (x for x in agent.lines() if "ceilometer_perf" in x)
    assert "perf.hw.no_such" in line
    assert "polling.yaml:" in line


def test_a_wrong_option_is_one_line_and_the_agent_polls_on(
    lab: Lab, tmp_path: Path
) -> None:
    lab.start(Guest("paused-1", "paused"))
    with Agent(
        tmp_path,
        lab,
        meters=("perf.hw.*", "vcpus"),
        perf="libvirt_timeout = soon",
    ) as agent:
        agent.wait_for_samples(3, counter_name="vcpus")
    assert {s["counter_name"] for s in agent.samples()} == {"vcpus"}
    (line,) = (x for x in agent.lines() if "libvirt_timeout" in x)
    assert "[perf] libvirt_timeout" in line
