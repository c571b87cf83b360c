# SPDX-License-Identifier: Apache-2.0
"""The tree of slices, and what conflicts with what."""

from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.slices.spec import SliceSpec
from ceilometer_perf.slices.tree import Tree


def tree(*links: tuple[str, str | None]) -> Tree:
    return Tree(
        SliceSpec(name, "CUSTOM_A", "", above) for name, above in links
    )


EIGHT = tree(
    ("8_1", None), ("4_1", "8_1"), ("4_2", "8_1"), ("2_1", "4_1"),
    ("2_2", "4_1"), ("2_3", "4_2"), ("2_4", "4_2"), ("other", None),
)  # fmt: skip


def test_eight() -> None:
    assert EIGHT.roots == ("8_1", "other")
    assert EIGHT.children("8_1") == ("4_1", "4_2")
    assert EIGHT.children("2_1") == ()
    assert EIGHT.parent("2_1") == "4_1"
    assert EIGHT.parent("8_1") is None
    assert EIGHT.ancestors("2_4") == ("4_2", "8_1")
    assert EIGHT.descendants("8_1") == (
        "4_1", "2_1", "2_2", "4_2", "2_3", "2_4",
    )  # fmt: skip
    assert EIGHT.leaves == ("2_1", "2_2", "2_3", "2_4", "other")
    assert EIGHT.conflicts("4_1") == ("8_1", "2_1", "2_2")
    assert list(EIGHT) == ["8_1", *EIGHT.descendants("8_1"), "other"]
    assert len(EIGHT) == 8


def test_nothing() -> None:
    assert list(tree()) == []
    assert tree().roots == tree().leaves == ()


def test_parts_may_come_first() -> None:
    assert list(tree(("b", "a"), ("a", None))) == ["a", "b"]


def test_a_deep_one() -> None:
    names = [str(n) for n in range(1000)]
    deep = tree(*zip(names, [None, *names[:-1]], strict=True))
    assert list(deep) == names
    assert deep.ancestors("999") == tuple(reversed(names[:-1]))
    assert len(deep.conflicts("500")) == 999


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=30))
def test_conflicts_are_mutual(parents: list[int]) -> None:
    links = [
        (str(n), str(above) if 0 <= above < n else None)
        for n, above in enumerate(parents)
    ]
    found = tree(*links)
    assert sorted(found) == sorted(name for name, _ in links)
    for name, _ in links:
        for other in found.conflicts(name):
            assert name in found.conflicts(other)
            assert name != other
        for below in found.descendants(name):
            assert name in found.ancestors(below)
        for other in found:
            assert found.is_part(other, name) == (
                other in found.descendants(name)
            )
