# SPDX-License-Identifier: Apache-2.0
"""What a sync leaves in Placement, and what it says of it."""

import uuid

import pytest

from ceilometer_perf.slices.placement import providers, sync
from ceilometer_perf.slices.placement.encoding import (
    MARKER,
    PLACE,
    encode,
)
from ceilometer_perf.slices.placement.errors import (
    ConflictError,
    PlacementError,
)
from ceilometer_perf.slices.placement.providers import Node
from ceilometer_perf.slices.placement.sync import State, Synced
from tests.unit.fake_placement import FakePlacement, Provider
from tests.unit.slice_trees import Row, parts, tree

NODE = Node(str(uuid.UUID(int=1)), "node")
PAIR: list[Row] = [("a", "A", None), *parts(2, "B", "a"), ("c", "C", None)]
A, C = (providers.provider_uuid(NODE, name) for name in "ac")


@pytest.fixture
def placement() -> FakePlacement:
    return FakePlacement(NODE.uuid, NODE.name)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have waited, each time."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    return waits


def synced(
    placement: FakePlacement, rows: list[Row], *, dry_run: bool = False
) -> Synced:
    return sync.sync(
        placement.client, NODE.name, encode(tree(rows)), dry_run=dry_run
    )


def states(done: Synced) -> dict[str, State]:
    return {each.name: each.state for each in done.providers}


def offered(placement: FakePlacement, uuid: str) -> dict[str, int]:
    """What may be allocated, by class."""
    return {
        name: each["total"] - each["reserved"]
        for name, each in placement.providers[uuid].inventories.items()
    }


def test_from_nothing(placement: FakePlacement) -> None:
    done = synced(placement, PAIR)
    assert states(done) == {"node_a": State.OPEN, "node_c": State.OPEN}
    assert {each.uuid for each in done.providers} == {A, C}
    assert offered(placement, A) == {"CUSTOM_A": 1, "CUSTOM_B": 2}
    assert offered(placement, C) == {"CUSTOM_C": 1}
    assert placement.providers[A].parent == NODE.uuid
    assert MARKER in placement.providers[A].traits
    assert placement.classes == {"CUSTOM_A", "CUSTOM_B", "CUSTOM_C", PLACE}
    assert offered(placement, NODE.uuid) == {PLACE: 3}
    assert [f"{w.method} {w.path}" for w in done.writes] == placement.changes
    assert [each.consumers for each in done.providers] == [(), ()]
    for each in done.providers:
        assert each.inventories == placement.providers[each.uuid].inventories


def test_again_writes_nothing(placement: FakePlacement) -> None:
    synced(placement, PAIR)
    placement.changes.clear()
    done = synced(placement, PAIR)
    assert (list(done.writes), placement.changes) == ([], [])
    assert states(done) == {"node_a": State.OPEN, "node_c": State.OPEN}


def test_a_dry_run_says_the_same_and_writes_nothing(
    placement: FakePlacement,
) -> None:
    would = synced(placement, PAIR, dry_run=True)
    assert placement.changes == []
    assert set(placement.providers) == {NODE.uuid}
    done = synced(placement, PAIR)
    assert would.providers == done.providers
    assert would.writes == done.writes


def test_what_is_in_use_is_kept_and_the_rest_waits(
    placement: FakePlacement,
) -> None:
    synced(placement, PAIR)
    placement.allocations = {
        "vm-2": {A: {"CUSTOM_B": 1}},
        "vm-1": {A: {"CUSTOM_B": 1}},
        "vm-3": {C: {"CUSTOM_C": 1}},
    }
    renamed: list[Row] = [
        ("x", "A", None),
        *parts(2, "B", "x"),
        ("c", "C", None),
    ]
    done = synced(placement, renamed)
    assert states(done) == {
        "node_a": State.KEPT,
        "node_x": State.WAITING,
        "node_c": State.OPEN,
    }
    (kept,) = (each for each in done.providers if each.state is State.KEPT)
    assert (kept.uuid, kept.consumers) == (A, ("vm-1", "vm-2"))
    assert kept.inventories == placement.providers[A].inventories
    assert offered(placement, A) == {"CUSTOM_A": 0, "CUSTOM_B": 0}
    x = providers.provider_uuid(NODE, "x")
    assert offered(placement, x) == {"CUSTOM_A": 0, "CUSTOM_B": 0}
    # Once they are gone, so is it, and the new one opens.
    placement.allocations.clear()
    done = synced(placement, renamed)
    assert states(done) == {"node_x": State.OPEN, "node_c": State.OPEN}
    assert A not in placement.providers
    assert offered(placement, x) == {"CUSTOM_A": 1, "CUSTOM_B": 2}


def test_a_removed_slice_that_is_not_used_goes(
    placement: FakePlacement,
) -> None:
    synced(placement, PAIR)
    done = synced(placement, PAIR[:3])
    assert states(done) == {"node_a": State.OPEN}
    assert set(placement.providers) == {NODE.uuid, A}


def test_one_that_was_only_just_made_goes_as_well(
    placement: FakePlacement,
) -> None:
    """Whoever made it ended before it had traits."""
    key = providers.provider_uuid(NODE, "old")
    placement.providers[key] = Provider("node_old", NODE.uuid)
    others = {"gpu": Provider("node_gpu", NODE.uuid)}
    placement.providers |= others
    synced(placement, PAIR[:3])
    assert set(placement.providers) == {NODE.uuid, A, *others}


def test_what_others_change_meanwhile_is_read_again(
    placement: FakePlacement, no_waiting: list[float]
) -> None:
    synced(placement, PAIR)
    more = [*PAIR[:1], *parts(3, "B", "a"), PAIR[-1]]
    calls: list[str] = []

    def allocate_first(method: str, path: str) -> None:
        if path.endswith(f"{A}/inventories") and not calls:
            calls.append(path)
            placement.providers[A].generation += 1
            placement.allocations["vm"] = {A: {"CUSTOM_B": 1}}

    placement.before = allocate_first
    done = synced(placement, more)
    assert calls
    assert len(no_waiting) == 1
    assert states(done)["node_a"] is State.KEPT
    assert offered(placement, A) == {"CUSTOM_A": 0, "CUSTOM_B": 0}


def test_writes_of_all_attempts_are_told(placement: FakePlacement) -> None:
    failed: list[str] = []

    def fail_once(method: str, path: str) -> None:
        if path.endswith("/inventories") and not failed:
            failed.append(path)
            raise ConflictError("409")

    placement.before = fail_once
    done = synced(placement, PAIR)
    assert [f"{w.method} {w.path}" for w in done.writes] == placement.changes
    # What was made before it failed is not made again.
    puts = [each for each in placement.changes if each.startswith("PUT")]
    assert len(set(puts)) == len(puts)
    assert len(placement.providers) == 3


def test_gives_up_when_others_never_stop(
    placement: FakePlacement, no_waiting: list[float]
) -> None:
    tries: list[str] = []

    def fail(method: str, path: str) -> None:
        tries.append(path)
        raise ConflictError("somebody else is faster")

    placement.before = fail
    with pytest.raises(ConflictError, match="faster"):
        synced(placement, PAIR)
    assert len(tries) == sync.ATTEMPTS
    assert len(no_waiting) == sync.ATTEMPTS - 1
    assert all(0 <= wait <= 0.2 for wait in no_waiting)
    assert len(set(no_waiting)) > 1  # so that two don't keep in step


def test_other_failures_are_not_tried_again(
    placement: FakePlacement,
) -> None:
    tries: list[str] = []

    def fail(method: str, path: str) -> None:
        tries.append(path)
        raise PlacementError("500")

    placement.before = fail
    with pytest.raises(PlacementError, match="500"):
        synced(placement, PAIR)
    assert len(tries) == 1


def test_no_such_node(placement: FakePlacement) -> None:
    with pytest.raises(PlacementError, match="no compute node 'other'"):
        sync.sync(placement.client, "other", encode(tree(PAIR)), dry_run=False)
