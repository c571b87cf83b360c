# SPDX-License-Identifier: Apache-2.0
"""Slices in the real Placement: nothing that overlaps goes out together."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.functional.cloud import Cloud
from tests.functional.slice_oracle import Oracle
from tests.lab.placement import Placement
from tests.unit import slice_trees


@pytest.fixture
def cloud(placement: Placement, tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(placement, tmp_path)
    yield cloud
    cloud.wipe()


def classes(cloud: Cloud) -> list[str]:
    specs = cloud.tree.specs.values()
    return list(dict.fromkeys(spec.resource_class for spec in specs))


def test_every_order_of_claims(cloud: Cloud) -> None:
    cloud.configure(slice_trees.EIGHT)
    cloud.sync()
    every_order(cloud, Oracle(cloud.tree), 3)


def every_order(cloud: Cloud, oracle: Oracle, depth: int) -> None:
    """Claim so many slices of any classes, one by one, and give them back."""
    for wanted in classes(cloud) if depth else ():
        candidates = cloud.candidates(wanted)
        assert bool(candidates) == oracle.fits(wanted), oracle.held
        if candidates:
            consumer = cloud.claim(candidates[-1])
            assert consumer
            oracle.take(consumer, wanted, cloud.where(candidates[-1]))
            every_order(cloud, oracle, depth - 1)
            cloud.release(consumer)
            oracle.give_back(consumer)


def test_all_eight_then_two_halves_then_the_whole(cloud: Cloud) -> None:
    cloud.configure(slice_trees.EIGHT)
    cloud.sync()
    for wanted, count in ("1", 8), ("4", 2), ("8", 1):
        held = [cloud.take(f"CUSTOM_SLICE_{wanted}") for _ in range(count)]
        assert not any(map(cloud.candidates, classes(cloud)))
        for consumer in held:
            cloud.release(consumer)


def test_an_image_that_requires_traits_of_the_host(cloud: Cloud) -> None:
    cloud.configure(slice_trees.EIGHT)
    cloud.sync()
    path = f"/resource_providers/{cloud.node_uuid}"
    generation = cloud.send("GET", path).json()["generation"]
    body = {
        "traits": ["COMPUTE_NODE"],
        "resource_provider_generation": generation,
    }
    cloud.send("PUT", f"{path}/traits", body).raise_for_status()
    for wanted in classes(cloud):
        assert cloud.candidates(wanted, "COMPUTE_NODE")
        assert not cloud.candidates(wanted, "HW_CPU_X86_VMX")


class Claims(RuleBasedStateMachine):
    """Claims and releases; Placement and the oracle must agree."""

    cloud: Cloud
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle(self.cloud.tree)

    @rule(which=st.integers(0, 20), candidate=st.integers(0, 20))
    def claim(self, which: int, candidate: int) -> None:
        type(self).steps += 1
        known = classes(self.cloud)
        wanted = known[which % len(known)]
        offered = self.cloud.candidates(wanted)
        assert bool(offered) == self.oracle.fits(wanted), self.oracle.held
        if offered:
            chosen = offered[candidate % len(offered)]
            consumer = self.cloud.claim(chosen)
            assert consumer
            self.oracle.take(consumer, wanted, self.cloud.where(chosen))

    @precondition(lambda self: self.oracle.held)
    @rule(which=st.integers(0, 20))
    def release(self, which: int) -> None:
        type(self).steps += 1
        held = sorted(self.oracle.held)
        consumer = held[which % len(held)]
        self.cloud.release(consumer)
        self.oracle.give_back(consumer)

    def teardown(self) -> None:
        for consumer in self.oracle.held:
            self.cloud.release(consumer)


#: More of them with the random seeds of tools/soak.sh --properties.
TIMES = 1 if settings().derandomize else 8


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        (name, TIMES * (2 if name == "eight" else 1))
        for name in slice_trees.ALL
    ],
)
def test_claims_and_releases_agree_with_the_oracle(
    name: str, runs: int, cloud: Cloud
) -> None:
    cloud.configure(slice_trees.ALL[name])
    cloud.sync()
    machine = type("Claims", (Claims,), {"cloud": cloud})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    assert machine.steps > 35 * runs  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["eight", "twins"])
def test_races_of_several_clients(name: str, cloud: Cloud) -> None:
    cloud.configure(slice_trees.ALL[name])
    cloud.sync()
    oracle, lock = Oracle(cloud.tree), threading.Lock()
    end = time.monotonic() + 240
    seen = {"won": 0, "lost": 0}

    def enough() -> bool:
        return seen["won"] >= 30 and seen["lost"] >= 5

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while not enough() and time.monotonic() < end:
            wanted = chance.choice(classes(cloud))
            offered = cloud.candidates(wanted)
            if not offered:
                continue
            chosen = chance.choice(offered)
            consumer = cloud.claim(chosen)
            with lock:
                seen["lost" if consumer is None else "won"] += 1
            if consumer is None:
                continue
            with lock:
                oracle.take(consumer, wanted, cloud.where(chosen))
            with lock:
                oracle.give_back(consumer)
            cloud.release(consumer)

    with futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(client, range(6)))
    assert enough(), seen
