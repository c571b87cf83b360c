# SPDX-License-Identifier: Apache-2.0
"""What the driver has Nova write to Placement, pass by pass."""

import logging
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from nova.compute.provider_tree import ProviderTree

from ceilometer_perf.nova.provider_tree import Report
from ceilometer_perf.slices.placement import providers, sync
from ceilometer_perf.slices.placement.encoding import MARKER, PLACE, encode
from ceilometer_perf.slices.placement.providers import Node, inventories
from tests.unit.fake_placement import FakePlacement
from tests.unit.slice_trees import ALL, Row, parts, tree

NODE = Node(str(uuid.UUID(int=1)), "node")
PAIR: list[Row] = [("a", "A", None), *parts(2, "B", "a"), ("c", "C", None)]
A, C = (providers.provider_uuid(NODE, name) for name in "ac")
ORDINARY = inventories(
    {"VCPU": 4, "MEMORY_MB": 512, "DISK_GB": 9}, reserved=False
)
Offered = dict[str, dict[str, int]]


class Host:
    """A tree that Nova keeps, and who has what of it."""

    def __init__(self) -> None:
        self.tree = ProviderTree()
        self.tree.new_root(NODE.name, NODE.uuid, generation=0)
        self.allocations: dict[str, dict[str, dict[str, int]]] = {}

    def consumers(self, provider: str) -> Mapping[str, Mapping[str, int]]:
        return {
            consumer: held[provider]
            for consumer, held in self.allocations.items()
            if provider in held
        }

    def report(self, rows: list[Row]) -> Offered:
        """As nova-compute does, started with these slices."""
        before = self.tree.data(NODE.name).inventory
        self.tree.update_inventory(NODE.name, ORDINARY)
        Report(encode(tree(rows)), self.consumers).write(
            self.tree, NODE.name, before
        )
        return self.offered()

    def offered(self) -> Offered:
        """What may be allocated, by provider and class."""
        found = (self.tree.data(u) for u in self.tree.get_provider_uuids())
        return {
            each.name: {
                name: i["total"] - i["reserved"]
                for name, i in each.inventory.items()
            }
            for each in found
        }


@pytest.fixture
def host() -> Host:
    return Host()


OPEN: Offered = {
    "node": {PLACE: 3},
    "node_a": {"CUSTOM_A": 1, "CUSTOM_B": 2},
    "node_c": {"CUSTOM_C": 1},
}
CLOSED: Offered = {name: dict.fromkeys(i, 0) for name, i in OPEN.items()}
NOVAS: Offered = {"node": {"VCPU": 4, "MEMORY_MB": 512, "DISK_GB": 9}}
RESERVED = dict.fromkeys(NOVAS["node"], 0)


def test_a_new_host_has_slices_and_nothing_else(host: Host) -> None:
    assert host.report(PAIR) == OPEN
    assert host.report(PAIR) == OPEN


@pytest.mark.parametrize("name", ALL)
def test_it_is_what_slice_sync_writes(host: Host, name: str) -> None:
    placement = FakePlacement(NODE.uuid, NODE.name)
    sync.sync(
        placement.client, NODE.name, encode(tree(ALL[name])), dry_run=False
    )
    host.report(ALL[name])
    found = {u: host.tree.data(u) for u in host.tree.get_provider_uuids()}
    assert set(found) == set(placement.providers)
    for key, each in placement.providers.items():
        assert found[key].name == each.name
        assert found[key].parent_uuid == each.parent
        assert found[key].inventory == each.inventories
        assert set(found[key].traits) == each.traits


def test_without_slices_it_is_novas(host: Host) -> None:
    assert host.report([]) == NOVAS
    assert host.report([]) == NOVAS


def test_an_ordinary_host_is_closed_before_slices_open(host: Host) -> None:
    host.report([])
    assert host.report(PAIR) == {"node": {**RESERVED, PLACE: 3}}
    assert host.report(PAIR) == OPEN


def test_an_ordinary_host_is_drained_first(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.report([])
    host.allocations["vm"] = {NODE.uuid: {"VCPU": 1, "DISK_GB": 1}}
    own = {**RESERVED, PLACE: 3}
    assert host.report(PAIR) == {"node": own}
    with caplog.at_level(logging.WARNING):
        assert host.report(PAIR) == {**CLOSED, "node": own}
    assert (
        "No slice of node is offered while the host has 1 instance in no "
        "slice: migrate or delete vm" in caplog.text
    )
    host.allocations.clear()
    assert host.report(PAIR) == OPEN


def test_what_provider_yaml_adds_is_not_in_the_way(host: Host) -> None:
    host.tree.update_inventory(
        NODE.name, inventories({"CUSTOM_LICENSE": 9}, reserved=False)
    )
    assert host.report(PAIR) == OPEN


def test_slices_are_closed_before_an_ordinary_host_opens(host: Host) -> None:
    host.report(PAIR)
    assert host.report([]) == {**CLOSED, "node": RESERVED}
    assert host.report([]) == NOVAS


def test_slices_that_are_used_keep_the_host_closed(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.report(PAIR)
    host.allocations["vm"] = {A: {"CUSTOM_B": 1}, NODE.uuid: {PLACE: 1}}
    host.report([])
    kept = {"node": {**RESERVED, PLACE: 1}, "node_a": CLOSED["node_a"]}
    with caplog.at_level(logging.WARNING):
        assert host.report([]) == kept
    assert (
        "node has no [libvirt] slice_spec any more, and is not offered while "
        "the host has 1 instance in an earlier slice: migrate or delete vm"
    ) in caplog.text
    host.allocations.clear()
    assert host.report([]) == NOVAS


def test_what_is_in_use_is_kept_and_the_rest_waits(host: Host) -> None:
    host.report(PAIR)
    host.allocations["vm"] = {A: {"CUSTOM_B": 1}, NODE.uuid: {PLACE: 1}}
    renamed: list[Row] = [
        ("x", "A", None),
        *parts(2, "B", "x"),
        ("c", "C", None),
    ]
    host.report(renamed)
    assert host.report(renamed) == {
        "node": {PLACE: 4},
        "node_a": CLOSED["node_a"],
        "node_x": CLOSED["node_a"],
        "node_c": OPEN["node_c"],
    }
    host.allocations.clear()
    assert host.report(renamed) == {
        "node": OPEN["node"],
        "node_x": OPEN["node_a"],
        "node_c": OPEN["node_c"],
    }


def test_nothing_opens_under_the_traits_of_before(host: Host) -> None:
    """Nova writes a provider's inventory, and then its traits."""
    host.report(PAIR)
    old = set(host.tree.data(A).traits)
    more: list[Row] = [*PAIR[:1], *parts(3, "B", "a"), PAIR[-1]]
    seen = []
    for _ in range(4):
        offered = host.report(more)
        seen.append((set(host.tree.data(A).traits) == old, offered["node_a"]))
    assert seen == [
        (True, {"CUSTOM_A": 0, "CUSTOM_B": 0}),
        (False, {"CUSTOM_A": 0, "CUSTOM_B": 0}),
        (False, {"CUSTOM_A": 1, "CUSTOM_B": 3}),
        (False, {"CUSTOM_A": 1, "CUSTOM_B": 3}),
    ]


def test_traits_of_others_stay(host: Host) -> None:
    host.report(PAIR)
    host.tree.add_traits(C, "CUSTOM_GOLD")
    host.report(PAIR)
    traits: Any = host.tree.data(C).traits
    assert "CUSTOM_GOLD" in traits


def test_the_node_is_no_slice_whatever_its_traits(host: Host) -> None:
    """As an operator may mark hosts that have slices."""
    host.tree.add_traits(NODE.name, MARKER)
    assert host.report(PAIR) == OPEN
    host.allocations["vm"] = {A: {"CUSTOM_B": 1}, NODE.uuid: {PLACE: 1}}
    assert host.report(PAIR) == OPEN


def test_one_that_was_only_just_made_goes_as_well(host: Host) -> None:
    """nova-compute ended before it had traits: they are written last."""
    key = providers.provider_uuid(NODE, "old")
    host.tree.new_child("node_old", NODE.uuid, uuid=key)
    host.tree.update_inventory(
        key, inventories({"CUSTOM_A": 1}, reserved=False)
    )
    host.tree.new_child("node_gpu", NODE.uuid)
    others: Offered = {"node_gpu": {}}
    closed: Offered = {"node": {PLACE: 3}, "node_old": {"CUSTOM_A": 0}}
    assert host.report(PAIR) == {**closed, **others}
    assert host.report(PAIR) == {**OPEN, **others}
