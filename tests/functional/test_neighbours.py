# SPDX-License-Identifier: Apache-2.0
"""A real victim and a real culprit on one CPU, by the real agent."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.meters import CULPRIT, VICTIM, Meter
from ceilometer_perf.neighbours.history import NEEDED
from ceilometer_perf.neighbours.judge import CYCLES, LEAST_BEFORE
from tests.functional.agent import Agent, wait_for
from tests.functional.companion import run
from tests.lab import Guest, Lab
from tests.lab.pinning import GREED, pin


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        yield lab


@pytest.fixture
def rivals(lab: Lab) -> Iterator[tuple[Guest, Guest]]:
    """On one CPU. The second one takes nearly all of it, once it runs."""
    victim, culprit = lab.start_all(
        [Guest("victim", "spin"), Guest("culprit", "spin", events=())]
    )
    lab.domain(culprit).suspend()
    cpu = min(os.sched_getaffinity(0))
    pin(lab.qemu_pid(victim), cpu)
    pin(lab.qemu_pid(culprit), cpu, GREED)
    yield victim, culprit
    for guest in (victim, culprit):
        lab.remove(guest)


def told(agent: Agent, guest: Guest, meter: Meter) -> list[dict[str, Any]]:
    """The guest's samples of a meter."""
    return [
        sample
        for sample in agent.samples()
        if (sample["resource_id"], sample["counter_name"])
        == (guest.uuid, meter.name)
    ]


def test_who_takes_another_s_cpu_is_named(
    lab: Lab, rivals: tuple[Guest, Guest], tmp_path: Path
) -> None:
    victim, culprit = rivals
    with Agent(tmp_path / "agent", lab, meters=("perf.neighbour.*",)) as agent:
        conf = tmp_path / "agent" / "ceilometer.conf"
        early = agent.wait_for_samples(
            5, resource_id=victim.uuid, counter_name=CULPRIT.name
        )
        assert {each["counter_volume"] for each in early} == {0}
        assert told(agent, victim, VICTIM) == []
        wait_for(
            lambda: len(told(agent, victim, VICTIM)) >= LEAST_BEFORE + 3,
            3 * NEEDED, "enough history", every=1,
        )  # fmt: skip
        usual = len(told(agent, victim, VICTIM))
        resumed = time.monotonic()
        lab.domain(culprit).resume()
        wait_for(
            lambda: any(
                each["counter_volume"] for each in told(agent, victim, VICTIM)
            ),
            60, "a victim", every=1,
        )  # fmt: skip
        samples = told(agent, victim, VICTIM)
        harmed = next(each for each in samples if each["counter_volume"])
        assert samples.index(harmed) >= usual
        # A busy host may have slowed it down before, but nobody is blamed for
        # one cycle.
        at = harmed["monotonic_time"]
        since = [
            each
            for each in told(agent, culprit, CULPRIT)
            if resumed < each["monotonic_time"] <= at
        ]
        assert len(since) > 1
        about = harmed["resource_metadata"]["perf"]
        assert (about["cause"], about["partner"]) == ("cpu", culprit.uuid)
        assert about["evidence"]["cycles"] >= CYCLES
        assert 0.1 < harmed["counter_volume"] <= 1
        (named, *_) = wait_for(
            lambda: [
                each
                for each in told(agent, culprit, CULPRIT)
                if each["counter_volume"]
            ],
            10, "a culprit",
        )  # fmt: skip
        about = named["resource_metadata"]["perf"]
        assert (about["cause"], about["partner"]) == ("cpu", victim.uuid)
        assert named["counter_volume"] > 0.35
        shown = run("neighbours", "--config-file", conf)
        rows = run("neighbours", "--config-file", conf, "-f", "json")
        lab.domain(culprit).suspend()
        wait_for(
            lambda: not told(agent, victim, VICTIM)[-1]["counter_volume"],
            60, "the end of it", every=1,
        )  # fmt: skip
        assert agent.errors() == []
    assert shown.code == 0
    assert f"{victim.domain_name}, by {culprit.domain_name}: " in shown.out
    worst = json.loads(rows.out)[0]
    assert (worst["id"], worst["cause"]) == (victim.uuid, "cpu")
    assert worst["culprit"] == culprit.uuid
    lab.domain(culprit).resume()
    no_verdict_without_a_past(lab, rivals, tmp_path / "agent")


def no_verdict_without_a_past(
    lab: Lab, rivals: tuple[Guest, Guest], folder: Path
) -> None:
    """An agent that starts amid the harm has nothing to compare it with."""
    victim, culprit = rivals
    kept = f"neighbours_file = {folder}/neighbours.json"
    with Agent(
        folder.with_name("next"), lab, meters=("perf.neighbour.*",), perf=kept
    ) as agent:
        for guest in rivals:
            agent.wait_for_samples(
                CYCLES + LEAST_BEFORE, resource_id=guest.uuid,
                counter_name=CULPRIT.name,
            )  # fmt: skip
        assert told(agent, victim, VICTIM) == []
        of_culprit = told(agent, culprit, CULPRIT)
        assert {each["counter_volume"] for each in of_culprit} == {0}
        conf = folder.with_name("next") / "ceilometer.conf"
        rows = run("neighbours", "--config-file", conf, "-f", "json")
        (row,) = [r for r in json.loads(rows.out) if r["id"] == victim.uuid]
        assert row["verdict"] == "unknown"
        assert f"of {NEEDED} cycles of history" in row["untold"]["cpu"]
        assert agent.errors() == []
