# SPDX-License-Identifier: Apache-2.0
"""``slice sync`` with the real Placement: what it writes, what it keeps."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ceilometer_perf.slices.placement.client import Client
from tests.functional.cloud import NODE, Cloud
from tests.lab.placement import Placement
from tests.unit.slice_trees import ALL, EIGHT, Row, parts

PAIR: list[Row] = [("half", "SLICE_2", None), *parts(2, "SLICE_1", "half")]
SPLIT: list[Row] = [("half", "SLICE_2", None), *parts(3, "SLICE_1", "half")]


def renamed(rows: list[Row], old: str, new: str) -> list[Row]:
    return [
        (
            new if name == old else name,
            end,
            new if parent == old else parent,
        )
        for name, end, parent in rows
    ]


@pytest.fixture
def cloud(placement: Placement, tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(placement, tmp_path)
    yield cloud
    cloud.wipe()


def inventories(cloud: Cloud, name: str) -> Mapping[str, tuple[int, int]]:
    """Total and reserved by class."""
    uuid = cloud.providers()[name]["uuid"]
    answer = cloud.send("GET", f"/resource_providers/{uuid}/inventories")
    return {
        key.removeprefix("CUSTOM_"): (each["total"], each["reserved"])
        for key, each in answer.json()["inventories"].items()
    }


def states(said: Mapping[str, Any]) -> Mapping[str, str]:
    return {
        each["name"].removeprefix(f"{NODE}_"): each["state"]
        for each in said["providers"]
    }


@pytest.mark.parametrize("name", ALL)
def test_an_unchanged_host_makes_no_write(name: str, cloud: Cloud) -> None:
    cloud.configure(ALL[name])
    planned = cloud.sync("--dry-run")
    assert cloud.providers() == {}
    first = cloud.sync()
    assert first == planned
    assert first["writes"]
    before = cloud.providers()
    second = cloud.sync()
    assert second["writes"] == []
    assert second["providers"] == first["providers"]
    assert cloud.providers() == before


def test_units_are_inventory_of_the_lowest_parent(cloud: Cloud) -> None:
    cloud.configure(EIGHT)
    cloud.sync()
    assert set(cloud.providers()) == {"8_1", "8_1-1", "8_1-2"}
    assert inventories(cloud, "8_1") == {"SLICE_8": (1, 0)}
    assert inventories(cloud, "8_1-1") == {
        "SLICE_4": (1, 0),
        "SLICE_1": (4, 0),
    }


def test_a_slice_that_is_free_goes_with_its_entry(cloud: Cloud) -> None:
    cloud.configure([*PAIR, ("other", "OTHER", None)])
    cloud.sync()
    cloud.configure(PAIR)
    assert set(states(cloud.sync())) == {"half"}
    assert set(cloud.providers()) == {"half"}


def test_all_of_them_go_with_the_last_entry(cloud: Cloud) -> None:
    """So that nothing of a host is left when its slices are given up."""
    cloud.configure(PAIR)
    cloud.sync()
    assert cloud.providers()
    cloud.configure([])
    cloud.sync()
    assert not cloud.providers()


def test_a_removed_slice_that_is_in_use_is_kept_reserved(
    cloud: Cloud,
) -> None:
    cloud.configure([*PAIR, ("other", "OTHER", None)])
    cloud.sync()
    consumer = cloud.take("CUSTOM_SLICE_1")
    query = cloud.query("CUSTOM_SLICE_1")
    cloud.configure([("other", "OTHER", None)])
    said = cloud.sync()
    assert states(said) == {"half": "kept", "other": "open"}
    assert consumer in said["providers"][0]["consumers"]
    assert consumer in cloud.run("sync").out
    assert inventories(cloud, "half") == {
        "SLICE_2": (1, 1),
        "SLICE_1": (2, 2),
    }
    offered = cloud.send("GET", f"/allocation_candidates?{query}").json()
    assert offered["allocation_requests"] == []
    assert cloud.allocated(consumer)
    assert cloud.sync()["writes"] == []
    cloud.release(consumer)
    cloud.sync()
    assert set(cloud.providers()) == {"other"}


def test_a_renamed_slice_opens_when_the_old_one_is_free(
    cloud: Cloud,
) -> None:
    cloud.configure(PAIR)
    cloud.sync()
    consumer = cloud.take("CUSTOM_SLICE_1")
    cloud.configure(renamed(PAIR, "half", "new"))
    assert states(cloud.sync()) == {"half": "kept", "new": "waiting"}
    assert inventories(cloud, "new") == {
        "SLICE_2": (1, 1),
        "SLICE_1": (2, 2),
    }
    assert cloud.candidates("CUSTOM_SLICE_1") == []
    assert cloud.sync()["writes"] == []
    cloud.release(consumer)
    assert states(cloud.sync()) == {"new": "open"}
    assert cloud.candidates("CUSTOM_SLICE_2")


def test_a_name_that_comes_back_opens_again(cloud: Cloud) -> None:
    cloud.configure(PAIR)
    cloud.sync()
    cloud.take("CUSTOM_SLICE_1")
    cloud.configure(renamed(PAIR, "half", "new"))
    cloud.sync()
    cloud.configure(PAIR)
    assert states(cloud.sync()) == {"half": "open"}
    assert inventories(cloud, "half")["SLICE_1"] == (2, 0)


def test_another_division_waits_for_who_has_the_old_one(
    cloud: Cloud,
) -> None:
    cloud.configure(PAIR)
    cloud.sync()
    old = cloud.query("CUSTOM_SLICE_2")
    consumer = cloud.take("CUSTOM_SLICE_2")
    cloud.configure(SPLIT)
    assert states(cloud.sync()) == {"half": "kept"}
    cloud.release(consumer)
    assert states(cloud.sync()) == {"half": "open"}
    assert inventories(cloud, "half")["SLICE_1"] == (3, 0)
    # A flavor of the old division would leave a unit of a slice it takes.
    offered = cloud.send("GET", f"/allocation_candidates?{old}").json()
    assert offered["allocation_requests"] == []


def test_an_operators_traits_and_other_providers_stay(cloud: Cloud) -> None:
    cloud.configure(PAIR)
    cloud.sync()
    other = {"name": "gpu", "parent_provider_uuid": cloud.node_uuid}
    cloud.send("POST", "/resource_providers", other).raise_for_status()
    cloud.send("PUT", "/traits/CUSTOM_GOLD").raise_for_status()
    half = cloud.providers()["half"]
    path = f"/resource_providers/{half['uuid']}/traits"
    now = cloud.send("GET", path).json()
    now["traits"].append("CUSTOM_GOLD")
    cloud.send("PUT", path, now).raise_for_status()
    assert cloud.sync()["writes"] == []
    cloud.configure(SPLIT)
    assert cloud.sync()["writes"]
    assert "CUSTOM_GOLD" in cloud.send("GET", path).json()["traits"]
    assert "gpu" in cloud.providers()


def test_what_was_moved_or_renamed_by_hand_is_put_right(cloud: Cloud) -> None:
    cloud.configure(PAIR)
    cloud.sync()
    half = cloud.providers()["half"]
    body = {"name": "x", "parent_provider_uuid": cloud.node_uuid}
    path = f"/resource_providers/{half['uuid']}"
    cloud.send("PUT", path, body).raise_for_status()
    assert len(cloud.sync()["writes"]) == 1
    assert set(cloud.providers()) == {"half"}


Interference = Callable[[str, str], None]


def interfered(interfere: Interference) -> Any:
    """Have something happen before each write of a sync."""
    ask = Client.ask

    def first(self: Client, method: str, path: str, *body: Any) -> Any:
        if method != "GET":
            interfere(method, path)
        return ask(self, method, path, *body)

    return mock.patch.object(Client, "ask", first)


def touch(cloud: Cloud, path: str) -> None:
    """Claim from the provider that is to be written, and release."""
    uuid = path.split("/")[2]
    body = {uuid: {"resources": {"CUSTOM_SLICE_1": 1}}}
    consumer = cloud.claim({"allocations": body})
    if consumer:
        cloud.release(consumer)


def test_generations_that_change_meanwhile_are_read_again(
    cloud: Cloud,
) -> None:
    cloud.configure(PAIR)
    cloud.sync()
    cloud.configure(SPLIT)
    left = [3]

    def interfere(_method: str, path: str) -> None:
        if path.endswith("/inventories") and left[0]:
            left[0] -= 1
            touch(cloud, path)

    with interfered(interfere):
        said = cloud.sync()
    assert left == [0]
    assert states(said) == {"half": "open"}
    assert inventories(cloud, "half") == {
        "SLICE_2": (1, 0),
        "SLICE_1": (3, 0),
    }


def test_a_claim_that_comes_between_reading_and_writing_is_kept(
    cloud: Cloud,
) -> None:
    cloud.configure([*PAIR, ("other", "OTHER", None)])
    cloud.sync()
    candidate = cloud.candidates("CUSTOM_SLICE_1")[0]
    cloud.configure(renamed(PAIR, "half", "new"))
    claimed: list[str | None] = []

    def claim(_method: str, path: str) -> None:
        if not claimed:
            claimed.append(cloud.claim(candidate))

    with interfered(claim):
        said = cloud.sync()
    assert claimed[0]
    assert states(said) == {"half": "kept", "new": "waiting"}


def test_two_who_sync_at_once_agree(cloud: Cloud) -> None:
    cloud.configure(EIGHT)
    others: list[Any] = []

    def other(_method: str, path: str) -> None:
        if path == "/resource_providers" and not others:
            others.append(None)
            others.append(cloud.sync())

    with interfered(other):
        said = cloud.sync()
    assert states(said) == states(others[1])
    assert cloud.sync()["writes"] == []


def test_endless_conflicts_are_one_line(cloud: Cloud) -> None:
    cloud.configure(PAIR)
    cloud.sync()
    cloud.configure(SPLIT)

    def interfere(_method: str, path: str) -> None:
        if path.endswith("/inventories"):
            touch(cloud, path)

    with interfered(interfere):
        ran = cloud.run("sync")
    assert ran.code == 2
    assert "error: Placement answered 409" in ran.err
    assert ran.err.count("\n") == 1


def test_a_node_that_is_not_there_is_named(cloud: Cloud) -> None:
    cloud.configure(PAIR)
    ran = cloud.run("sync", "--node", "nobody")
    assert ran.code == 2
    assert "'nobody'" in ran.err
    assert ran.err.count("\n") == 1
