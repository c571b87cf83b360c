# SPDX-License-Identifier: Apache-2.0
"""What is written, and in which order, for what is there."""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from ceilometer_perf.slices.placement import providers
from ceilometer_perf.slices.placement.encoding import (
    MARKER,
    PLACE,
    encode,
)
from ceilometer_perf.slices.placement.errors import EncodingError
from ceilometer_perf.slices.placement.plan import (
    Plan,
    Write,
    plan,
    unsettled,
)
from ceilometer_perf.slices.placement.providers import (
    Node,
    Present,
    Snapshot,
    Wanted,
    inventories,
)
from tests.unit.slice_trees import EIGHT, Row, parts, tree

NODE = Node(str(uuid.UUID(int=1)), "node")
PAIR: list[Row] = [("a", "A", None), *parts(2, "B", "a"), ("c", "C", None)]

PLACES = 3
#: The compute node's own provider, with a class of others.
OWN = Present(
    NODE.uuid,
    NODE.name,
    None,
    7,
    inventories({"VCPU": 2, PLACE: PLACES}, reserved=False),
    frozenset(),
)


def wanted(rows: list[Row]) -> Mapping[str, Wanted]:
    return providers.wanted(NODE, encode(tree(rows)))


def snapshot(rows: list[Row], *, reserved: bool = False) -> Snapshot:
    """What Placement has after a sync."""
    there = wanted(rows)
    return Snapshot(
        OWN,
        {
            key: Present(
                key,
                each.name,
                NODE.uuid,
                7,
                inventories(each.resources, reserved=reserved),
                each.traits,
            )
            for key, each in there.items()
        },
        frozenset(
            {PLACE, *(n for each in there.values() for n in each.resources)}
        ),
        frozenset(name for each in there.values() for name in each.traits),
    )


def with_c(there: Snapshot, **changes: Any) -> Snapshot:
    """The provider of the slice c is otherwise."""
    key = providers.provider_uuid(NODE, "c")
    other = dataclasses.replace(there.present[key], **changes)
    return dataclasses.replace(there, present={**there.present, key: other})


EMPTY = Snapshot(
    dataclasses.replace(OWN, inventories={}), {}, frozenset(), frozenset()
)


def planned(wanted: Mapping[str, Wanted], there: Snapshot) -> Plan:
    """With nothing that is kept."""
    return plan(NODE, wanted, there, {}, PLACES)


def planned_with(
    wanted: Mapping[str, Wanted], there: Snapshot, kept: str, *consumers: str
) -> Plan:
    return plan(NODE, wanted, there, {kept: consumers}, PLACES)


def told(planned: Plan) -> list[str]:
    return [write.what for write in planned.writes]


def test_nothing_where_all_is_there() -> None:
    there = snapshot(EIGHT)
    assert unsettled(wanted(EIGHT), there.present) == []
    assert planned(wanted(EIGHT), there).writes == []


def test_what_opens_comes_last() -> None:
    writes = planned(wanted(PAIR), EMPTY).writes
    order = ["resource_classes", "traits", "resource_providers"]
    kinds = [write.path.split("/")[1] for write in writes]
    assert kinds == sorted(kinds, key=order.index)
    vocabulary = [w for w in writes if w.path.split("/")[1] in order[:2]]
    assert all((w.method, w.body) == ("PUT", None) for w in vocabulary)
    of_a = [w for w in writes if w.what.endswith("node_a")]
    assert [w.method for w in of_a] == ["POST", "PUT", "PUT"]
    assert of_a[-1].path.endswith("/inventories")


def test_all_that_changes_is_closed_before_anything_opens() -> None:
    new = [("a", "A", None), *parts(3, "B", "a"), ("d", "D", None)]
    there = snapshot(PAIR)
    assert len(unsettled(wanted(new), there.present)) == 2
    what = told(planned(wanted(new), there))
    made = what.index("create node_d")
    assert what.index("reserve all of node_a") < made
    assert what.index("reserve all of node_c") < made
    assert what.index("remove node_c") < made


def test_what_is_kept_is_reserved_and_nothing_opens() -> None:
    new = [("x", "A", None), *parts(2, "B", "x"), ("c", "C", None)]
    there = snapshot(PAIR)
    (kept,) = unsettled(wanted(new), there.present)
    keeping = planned_with(wanted(new), there, kept)
    goals = {
        each.name: keeping.goals[key] for key, each in wanted(new).items()
    }
    assert goals["node_x"]["CUSTOM_B"]["reserved"] == 2
    assert goals["node_c"]["CUSTOM_C"]["reserved"] == 0
    assert keeping.goals[kept]["CUSTOM_B"]["reserved"] == 2
    assert "remove node_a" not in told(keeping)
    assert "offer 0 of 1 CUSTOM_A, 0 of 2 CUSTOM_B at node_x" in told(keeping)


def test_what_was_closed_opens_when_nothing_is_kept() -> None:
    there = snapshot(PAIR, reserved=True)
    assert told(planned(wanted(PAIR), there)) == [
        "offer 1 of 1 CUSTOM_A, 2 of 2 CUSTOM_B at node_a",
        "offer 1 of 1 CUSTOM_C at node_c",
    ]


def test_a_slice_above_others_leaves_them_open() -> None:
    new: list[Row] = [
        ("top", "T", None),
        ("a", "A", "top"),
        *parts(2, "B", "a"),
        ("c", "C", "top"),
    ]
    there = snapshot(PAIR)
    assert unsettled(wanted(new), there.present) == []
    what = told(planned(wanted(new), there))
    assert not any(each.startswith("reserve") for each in what)


def test_a_half_made_provider_is_finished() -> None:
    there = with_c(snapshot(PAIR), inventories={}, traits=frozenset())
    assert told(planned(wanted(PAIR), there)) == [
        "set the traits of node_c",
        "offer 1 of 1 CUSTOM_C at node_c",
    ]


@pytest.mark.parametrize("change", [{"name": "c"}, {"parent": "elsewhere"}])
def test_a_provider_gets_its_name_and_place_back(
    change: dict[str, str],
) -> None:
    there = with_c(snapshot(PAIR), **change)
    (write,) = planned(wanted(PAIR), there).writes
    key = providers.provider_uuid(NODE, "c")
    assert write == Write(
        "PUT",
        f"/resource_providers/{key}",
        {"name": "node_c", "parent_provider_uuid": NODE.uuid},
        f"rename {change.get('name', 'node_c')} to node_c, below node",
    )


def test_traits_of_others_stay_and_ours_are_replaced() -> None:
    key = providers.provider_uuid(NODE, "c")
    right = wanted(PAIR)[key].traits
    foreign = {*right, "HW_CPU_X86_VMX"}
    there = with_c(snapshot(PAIR), traits=frozenset(foreign))
    assert planned(wanted(PAIR), there).writes == []
    old = frozenset({*foreign, "CUSTOM_SLICE_SHAPE_OLD"})
    writes = planned(wanted(PAIR), with_c(there, traits=old)).writes
    assert [w.body for w in writes] == [{"traits": sorted(foreign)}]


def test_what_is_closed_and_stays_so_is_written_once() -> None:
    """Its shape is another, and while node_a is kept, it may not open."""
    there = with_c(snapshot(PAIR), traits=frozenset({MARKER}))
    kept = providers.provider_uuid(NODE, "a")
    assert told(planned_with(wanted(PAIR), there, kept)) == [
        "reserve all of node_a",
        "reserve all of node_c",
        "set the traits of node_c",
    ]


def places(planned: Plan) -> Any:
    """What is written to the compute node's own provider."""
    found = [w for w in planned.writes if w.guarded == NODE.uuid]
    return [w.body and w.body["inventories"] for w in found]


def test_the_node_has_a_place_for_each_that_may_be_in_a_slice() -> None:
    there = snapshot(PAIR)
    assert places(planned(wanted(PAIR), there)) == []
    own = dataclasses.replace(
        OWN, inventories=inventories({"VCPU": 2}, reserved=True)
    )
    bare = dataclasses.replace(there, node=own)
    (written,) = places(planned(wanted(PAIR), bare))
    # Others of its classes stay as they are.
    assert written == {
        **own.inventories,
        **inventories({PLACE: PLACES}, reserved=False),
    }


def test_those_that_are_kept_have_places_of_their_own() -> None:
    there = snapshot(PAIR)
    kept = providers.provider_uuid(NODE, "a")
    (written,) = places(
        planned_with(wanted([PAIR[-1]]), there, kept, "vm-1", "vm-2")
    )
    assert written[PLACE]["total"] == PLACES + 2


def test_without_slices_the_node_has_no_places() -> None:
    (written,) = places(plan(NODE, {}, snapshot(PAIR), {}, 0))
    assert set(written) == {"VCPU"}


def test_providers_are_known_by_node_and_slice() -> None:
    assert wanted(PAIR).keys() == wanted(PAIR[::-1]).keys()
    other = Node(str(uuid.UUID(int=2)), "node")
    assert not set(wanted(PAIR)) & set(
        providers.wanted(other, encode(tree(PAIR)))
    )


def test_a_name_that_is_too_long_is_refused() -> None:
    node = Node(NODE.uuid, "n" * 150)
    rows: list[Row] = [("s" * 60, "A", None)]
    with pytest.raises(EncodingError, match="200 characters"):
        providers.wanted(node, encode(tree(rows)))
