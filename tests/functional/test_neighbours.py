# SPDX-License-Identifier: Apache-2.0
"""A real victim and a real culprit on one CPU, by the real agent."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.meters import CULPRIT, VICTIM
from ceilometer_perf.neighbours.history import NEEDED
from ceilometer_perf.neighbours.judge import CYCLES, LEAST_BEFORE
from tests.functional.agent import Agent, wait_for
from tests.functional.companion import run
from tests.lab import Guest, Lab

#: A nice value that takes more than a machine that is busy anyway does.
GREED = -10


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        yield lab


def pin(lab: Lab, guest: Guest, cpu: int, nice: int) -> None:
    process = Path(f"/proc/{lab.qemu_pid(guest)}")
    # Where sessions are scheduled as groups, only the group's value counts.
    with contextlib.suppress(OSError):
        (process / "autogroup").write_text(str(nice))
    for task in (process / "task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {cpu})
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)


@pytest.fixture
def rivals(lab: Lab) -> Iterator[tuple[Guest, Guest]]:
    """On one CPU. The second one takes nearly all of it, once it runs."""
    victim, culprit = lab.start_all(
        [Guest("victim", "spin"), Guest("culprit", "spin", events=())]
    )
    lab.domain(culprit).suspend()
    cpu = min(os.sched_getaffinity(0))
    pin(lab, victim, cpu, 0)
    pin(lab, culprit, cpu, GREED)
    yield victim, culprit
    for guest in (victim, culprit):
        lab.remove(guest)


def test_who_takes_another_s_cpu_is_named(
    lab: Lab, rivals: tuple[Guest, Guest], tmp_path: Path
) -> None:
    victim, culprit = rivals
    with Agent(tmp_path / "agent", lab, meters=("perf.neighbour.*",)) as agent:
        conf = tmp_path / "agent" / "ceilometer.conf"

        def told(guest: Guest, name: str) -> list[dict[str, Any]]:
            return [
                sample
                for sample in agent.samples()
                if (sample["resource_id"], sample["counter_name"])
                == (guest.uuid, name)
            ]

        early = agent.wait_for_samples(
            5, resource_id=victim.uuid, counter_name=CULPRIT.name
        )
        assert {each["counter_volume"] for each in early} == {0}
        assert told(victim, VICTIM.name) == []
        wait_for(
            lambda: len(told(victim, VICTIM.name)) >= LEAST_BEFORE + 3,
            3 * NEEDED, "enough history", every=1,
        )  # fmt: skip
        usual = len(told(victim, VICTIM.name))
        lab.domain(culprit).resume()
        wait_for(
            lambda: any(
                each["counter_volume"] for each in told(victim, VICTIM.name)
            ),
            60, "a victim", every=1,
        )  # fmt: skip
        samples = told(victim, VICTIM.name)
        harmed = next(each for each in samples if each["counter_volume"])
        assert samples.index(harmed) >= usual + CYCLES - 1
        about = harmed["resource_metadata"]["perf"]
        assert (about["cause"], about["partner"]) == ("cpu", culprit.uuid)
        assert about["evidence"]["cycles"] >= CYCLES
        assert 0.1 < harmed["counter_volume"] <= 1
        (named, *_) = wait_for(
            lambda: [
                each
                for each in told(culprit, CULPRIT.name)
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
            lambda: not told(victim, VICTIM.name)[-1]["counter_volume"],
            60, "the end of it", every=1,
        )  # fmt: skip
        assert agent.errors() == []
    assert shown.code == 0
    assert f"{victim.domain_name}, by {culprit.domain_name}: " in shown.out
    worst = json.loads(rows.out)[0]
    assert (worst["id"], worst["cause"]) == (victim.uuid, "cpu")
    assert worst["culprit"] == culprit.uuid
