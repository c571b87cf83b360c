# SPDX-License-Identifier: Apache-2.0
"""Slices as providers and requests, and trees that have none that exclude."""

import itertools
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ceilometer_perf.slices.placement.encoding import (
    Encoding,
    encode,
    is_shape,
    ours,
)
from ceilometer_perf.slices.placement.errors import EncodingError
from ceilometer_perf.slices.placement.flavors import flavors
from ceilometer_perf.slices.tree import Tree
from tests.unit.slice_trees import ALL, EIGHT, Row, parts, tree


def units(encoded: Encoding) -> dict[str, dict[str, int]]:
    return {
        name: {k.removeprefix("CUSTOM_"): n for k, n in p.resources.items()}
        for name, p in encoded.providers.items()
    }


def test_units_are_inventory_of_the_lowest_parent() -> None:
    assert units(encode(tree(EIGHT))) == {
        "8_1": {"SLICE_8": 1},
        "8_1-1": {"SLICE_1": 4, "SLICE_4": 1},
        "8_1-2": {"SLICE_1": 4, "SLICE_4": 1},
    }


def test_a_slice_asks_for_all_that_its_parts_are_counted_from() -> None:
    requests = encode(tree(EIGHT)).requests
    assert [
        [dict(group.resources) for group in groups]
        for groups in requests.values()
    ] == [
        [
            {"CUSTOM_SLICE_8": 1},
            {"CUSTOM_SLICE_1": 4, "CUSTOM_SLICE_4": 1},
            {"CUSTOM_SLICE_1": 4, "CUSTOM_SLICE_4": 1},
        ],
        [{"CUSTOM_SLICE_1": 4, "CUSTOM_SLICE_4": 1}],
        [{"CUSTOM_SLICE_1": 1}],
    ]


def test_parts_may_be_of_several_classes_and_depths() -> None:
    rows: list[Row] = [
        ("all", "ALL", None),
        ("pool", "POOL", "all"),
        ("a", "A", "pool"),
        ("b", "B", "pool"),
        ("alone", "A", "all"),
    ]
    encoded = encode(tree(rows))
    assert units(encoded) == {
        "all": {"ALL": 1},
        "pool": {"A": 1, "B": 1, "POOL": 1},
        "alone": {"A": 1},
    }
    assert encoded.counted_at["a"] == "pool"
    assert encoded.counted_at["alone"] == "alone"


REFUSED: dict[str, tuple[list[Row], str]] = {
    "leaves that are not interchangeable": (
        [("a", "X", None), ("a1", "Y", "a"), ("b", "X", None)],
        "Slices a and b are both CUSTOM_X but are divided differently",
    ),
    "one divided otherwise": (
        [
            ("a", "X", None), *parts(2, "Y", "a"),
            ("b", "X", None), *parts(3, "Y", "b"),
        ],
        "(2 CUSTOM_Y and 3 CUSTOM_Y)",
    ),
    "a part like the whole": (
        [("a", "X", None), ("b", "X", "a")],
        "Slices a and b are both CUSTOM_X",
    ),
    "three levels twice": (
        [
            row for root in "ab" for row in [
                (root, "X", None), (f"{root}1", "Y", root),
                (f"{root}2", "Z", f"{root}1"),
            ]
        ],
        "Slices a and b are both CUSTOM_X and have parts that have parts",
    ),
    "four levels": (
        [
            ("a", "W", None),
            *parts(2, "X", "a"),
            *parts(1, "Y", "a-1"), *parts(1, "Y", "a-2"),
            *parts(1, "Z", "a-1-1"), *parts(1, "Z", "a-2-1"),
        ],
        "Slices a-1 and a-2 are both CUSTOM_X and have parts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_exclude_is_refused(name: str) -> None:
    rows, said = REFUSED[name]
    with pytest.raises(EncodingError) as caught:
        encode(tree(rows))
    assert said in str(caught.value)
    assert "another resource_class" in str(caught.value)


def test_the_order_of_equal_parts_makes_no_other_flavor() -> None:
    there: list[Row] = [
        ("all", "ALL", None),
        ("x", "X", "all"),
        ("y", "Y", "all"),
        ("y1", "Y1", "y"),
    ]
    back = [there[0], there[2], there[3], there[1]]
    one, other = encode(tree(there)), encode(tree(back))
    assert one.requests == other.requests
    assert {n: p.traits for n, p in one.providers.items()} == {
        n: p.traits for n, p in other.providers.items()
    }


def test_another_division_has_other_traits() -> None:
    three, four = (
        encode(tree([("a", "A", None), *parts(n, "B", "a")])) for n in (3, 4)
    )
    (of_three,), (of_four,) = three.requests["CUSTOM_A"], four.requests[
        "CUSTOM_A"
    ]  # fmt: skip
    assert of_three.trait != of_four.trait


@pytest.mark.parametrize("name", ALL)
def test_each_slice_has_a_claim_of_its_kind(name: str) -> None:
    slices = tree(ALL[name])
    encoded = encode(slices)
    claims = [encoded.claim(slices, each) for each in slices]
    for each, claim in zip(slices, claims, strict=True):
        alike = [
            other
            for other, its in zip(slices, claims, strict=True)
            if its == claim
        ]
        # Only parts of one pool are counted as one.
        assert {encoded.counted_at[other] for other in alike} == {
            encoded.counted_at[each]
        }
        assert len({slices.parent(other) for other in alike}) == 1


def test_our_traits_are_ours_and_no_others() -> None:
    for provider in encode(tree(EIGHT)).providers.values():
        assert all(map(ours, provider.traits))
    assert not ours("CUSTOM_GOLD")
    assert not ours("CUSTOM_LIBVIRT_SLICER")


def test_flavors_have_zeroed_resources_and_groups() -> None:
    whole, half, part = flavors(encode(tree(EIGHT)), {})
    assert [f.name for f in (whole, half, part)] == [
        "slice-8", "slice-4", "slice-1",
    ]  # fmt: skip
    for flavor in whole, half, part:
        for name in "VCPU", "MEMORY_MB", "DISK_GB":
            assert flavor.properties[f"resources:{name}"] == "0"
    assert whole.properties["group_policy"] == "isolate"
    assert "group_policy" not in half.properties
    assert half.properties["resources1:CUSTOM_SLICE_1"] == "4"
    assert part.properties["resources1:CUSTOM_SLICE_1"] == "1"


def test_a_thousand_levels_are_no_trouble() -> None:
    rows: list[Row] = [
        (f"s{n}", f"C{n}", f"s{n - 1}" if n else None) for n in range(1000)
    ]
    assert len(encode(tree(rows)).providers) == 999


class Counting:
    """Placement as far as it counts: the smallest that could be."""

    def __init__(self, encoded: Encoding) -> None:
        self.encoded = encoded
        self.free = {
            name: Counter(provider.resources)
            for name, provider in encoded.providers.items()
        }

    def candidates(self, resource_class: str) -> list[dict[str, Counter[str]]]:
        groups = self.encoded.requests[resource_class]
        fitting = [
            [
                (name, Counter(group.resources))
                for name, provider in self.encoded.providers.items()
                if group.trait in provider.traits
                and Counter(group.resources) <= self.free[name]
            ]
            for group in groups
        ]
        return [
            dict(chosen)
            for chosen in itertools.product(*fitting)
            if len({name for name, _ in chosen}) == len(groups)
        ]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    rows: list[Row] = []
    for number in range(draw(st.integers(1, 9))):
        above = draw(st.sampled_from([None, *(name for name, _, _ in rows)]))
        rows.append((f"s{number}", draw(st.sampled_from("ABCDE")), above))
    return tree(rows)


@given(trees(), st.data())
def test_whatever_is_not_refused_excludes(
    slices: Tree, data: st.DataObject
) -> None:
    try:
        encoded = encode(slices)
    except EncodingError:
        assume(False)
    counting = Counting(encoded)
    held: list[str] = []
    for _ in range(6):
        wanted = data.draw(st.sampled_from(sorted(encoded.requests)))
        offered = counting.candidates(wanted)
        free = [
            name
            for name in slices
            if slices.specs[name].resource_class == wanted
            and {name, *slices.conflicts(name)}.isdisjoint(held)
        ]
        assert bool(offered) == bool(free)
        if not offered:
            continue
        taken = data.draw(st.sampled_from(offered))
        meant = [n for n in free if encoded.claim(slices, n) == taken]
        assert meant
        for provider, resources in taken.items():
            counting.free[provider] -= resources
        held.append(meant[0])


def test_shapes_are_told_from_parts() -> None:
    half = encode(tree(EIGHT)).providers["8_1-1"]
    assert len(list(filter(is_shape, half.traits))) == 2
