# SPDX-License-Identifier: Apache-2.0
"""Each cause for itself: what it takes for one, and for a culprit."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ceilometer_perf.neighbours import causes
from ceilometer_perf.neighbours.causes import (
    CORRELATION,
    CPU,
    LEAST_CPUS,
    LEAST_MOST,
    Contrast,
    Explanation,
    Guilt,
)
from ceilometer_perf.neighbours.observation import Frame, Observation
from tests.unit.test_neighbours import usual

HERE, THERE = frozenset({0}), frozenset({1})
BEFORE, SINCE = 5, 3


def seen(**more: Any) -> Observation:
    return usual(0, **more)


def frames(*each: Mapping[str, Observation]) -> list[Frame]:
    return [Frame(float(at), these) for at, these in enumerate(each)]


def contrast(
    before: Mapping[str, Observation],
    since: Mapping[str, Observation],
    excess: float = 2.0,
    **more: Any,
) -> Contrast:
    """All of them alike before, and since."""
    return Contrast(
        "v",
        frames(*[before] * BEFORE),
        frames(*[since] * SINCE),
        [1.0] * BEFORE + [excess] * SINCE,
        **more,
    )


def change(
    before: Mapping[str, Any], since: Mapping[str, Any], **more: Any
) -> Contrast:
    """Of the victim alone."""
    return contrast({"v": seen(**before)}, {"v": seen(**since)}, **more)


# What is compared


def test_medians_of_before_and_since() -> None:
    values = (1.0, 9.0, 2.0, 7.0, 5.0, 6.0)
    told = [{"v": seen(mpki=value)} for value in values]
    found = Contrast("v", frames(*told[:3]), frames(*told[3:]), [])
    assert found.moved("mpki") == (2.0, 6.0)
    told[1] = {"v": seen(mpki=None)}
    found = Contrast("v", frames(*told[:3]), frames(*told[3:]), [])
    assert found.moved("mpki") is None


def test_of_caches_all_or_its_own() -> None:
    found = change(
        {"occupancy": {0: 1.0, 1: 2.0, 2: 4.0}},
        {"occupancy": {0: 8.0, 1: 16.0}, "domains": HERE | {2}},
    )
    assert found.moved("occupancy") == (7.0, 24.0)
    assert found.own("occupancy") == (5.0, 8.0)
    assert change({}, {"occupancy": None}).own("occupancy") is None


def test_the_newest_reason_is_told() -> None:
    told = [
        {"v": seen(mpki=None, missing={"mpki": str(number)})}
        for number in range(4)
    ]
    quiet = [{"v": seen()}]
    before, since = frames(*told[:2]), frames(*told[2:])
    assert Contrast("v", before, since, []).why_not("mpki") == "3"
    found = Contrast("v", before, frames(*quiet), [])
    assert found.why_not("cpi", "mpki") == "1"
    assert found.why_not("cpi") is None


@pytest.mark.parametrize(
    ("pair", "rises", "falls"),
    [
        ((100.0, 111.0), True, False),
        ((100.0, 110.0), False, False),
        ((100.0, 90.0), False, False),
        ((100.0, 89.0), False, True),
        ((0.0, 0.0), False, False),
        ((0.0, 1.0), True, False),
        (None, False, False),
    ],
)
def test_what_moves_by_a_tenth_may_be_noise(
    pair: tuple[float, float] | None, *, rises: bool, falls: bool
) -> None:
    assert (causes._rises(pair), causes._falls(pair)) == (rises, falls)


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        ((1, 2, 3), (2, 4, 6), 1.0),
        ((1, 2, 3), (6, 4, 2), 0.0),
        ((1, 1, 1), (6, 4, 2), 0.0),
        ((1, 2, 3), (1, 2, 1), 0.0),
        ((1, 2, 2), (1, 2, 3), 0.8660254037844387),
        ((), (), 0.0),
    ],
)
def test_correlation(
    left: Sequence[float], right: Sequence[float], found: float
) -> None:
    assert causes._correlation(left, right) == pytest.approx(found)


# What suspects take


@pytest.mark.parametrize(
    ("more", "cpus", "beside"),
    [
        ({"cpus": 3.0}, 1.0, 2.0),
        ({"cpus": 0.0}, 0.0, 0.0),
        ({"cpus": None}, None, None),
        ({"cpus": 3.0, "allowed": frozenset()}, 0.0, 2.0),
        ({"cpus": 3.0, "ran_on": frozenset()}, 1.0, 0.0),
        ({"cpus": None, "ran_on": frozenset(), "allowed": frozenset()},
         None, None),
    ],
)  # fmt: skip
def test_its_part_of_cpus(
    more: dict[str, Any], cpus: float | None, beside: float | None
) -> None:
    other = seen(
        **{
            "allowed": frozenset({4, 5, 6}),
            "ran_on": frozenset({6, 7, 8}),
            **more,
        }
    )
    where = frozenset({6, 7})
    assert causes._on_its_cpus(other, where) == cpus
    assert causes._beside(other, where) == beside


def test_its_part_of_caches_and_memory() -> None:
    other = seen(
        occupancy={0: 1.0, 1: 2.0, 2: 4.0}, bandwidth={0: 3.0, 1: 5.0, 2: 7.0}
    )
    where = frozenset({1, 2})
    assert causes._held(other, where) == 6.0
    assert causes._transferred(other, where) == 12.0
    assert causes._fetched(other, where) == 12.0
    other = seen(occupancy=None, bandwidth=None, mpki=6.0, cpi=2.0, cpus=0.5)
    assert causes._held(other, where) is None
    assert causes._transferred(other, where) is None
    assert causes._fetched(other, where) == 1.5


@pytest.mark.parametrize("unknown", ["mpki", "cpi", "cpus"])
def test_misses_of_which_a_part_is_not_known(unknown: str) -> None:
    assert causes._missed(seen(**{unknown: None}), HERE) is None


def cpus_of(other: Observation, _where: frozenset[int]) -> float | None:
    return other.cpus


@pytest.mark.parametrize(
    ("told", "series"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        (["absent", "absent", 3.0], [0.0, 0.0, 3.0]),
        ([1.0, 2.0, "absent"], [1.0, 2.0, 0.0]),
        (["absent", None, 3.0], [0.0, 0.0, 3.0]),
        ([1.0, None, 3.0], None),
        ([None, 2.0, 3.0], None),
        (["absent", None, None], None),
        ([1.0, "new", 3.0], [1.0, 0.0, 3.0]),
    ],
)
def test_what_a_suspect_took(
    told: list[Any], series: list[float] | None
) -> None:
    """Rates need two readings: in its first cycle it took nothing yet."""
    process, these = 1, []
    for each in told:
        if each == "new":
            process += 1
        value = each if isinstance(each, float) else None
        other = seen(process=process, cpus=value)
        these.append({} if each == "absent" else {"c": other})
    found = Contrast("v", frames(*these[:2]), frames(*these[2:]), [])
    assert causes._series("c", cpus_of, HERE, found) == series


# Symptoms


@pytest.mark.parametrize(
    ("more", "explains"),
    [
        ({}, 1.0),
        ({"mpki": 17.0}, 1.0),
        ({"mpki": 7.0}, 0.5),
        ({"mpki": 3.67}, 0.167),
        ({"mpki": 3.66}, None),  # not even if each cost most
        ({"mpki": 2.2, "cpi": 1.001}, None),  # hardly more
        ({"occupancy": {0: 90.0, 1: 0.0}}, None),
        ({"occupancy": {0: 89.0, 1: 100.0}}, 1.0),
        ({"occupancy": None}, None),
        ({"mpki": None}, None),
        ({"cpi": None}, None),
        ({"cpi": 1.0}, None),
        ({"cpi": 0.9}, None),
    ],
)
def test_evicted(more: dict[str, Any], explains: float | None) -> None:
    since = {"mpki": 12.0, "cpi": 2.0, "occupancy": {0: 50.0}, **more}
    found = causes._evicted(
        change({"mpki": 2.0, "cpi": 1.0, "occupancy": {0: 100.0}}, since)
    )
    if explains is None:
        assert found is None
    else:
        assert found == {
            "explains": pytest.approx(explains),
            "mpki_before": 2.0,
            "mpki": since["mpki"],
            "occupancy_before": 100.0,
            "occupancy": since["occupancy"][0],
        }


def test_a_part_of_what_it_lost() -> None:
    found = change({"occupancy": {0: 100.0}}, {"occupancy": {0: 60.0}})
    assert causes._part_of_loss(found) == 10.0
    unknown = change({"occupancy": {0: 100.0}}, {"occupancy": None})
    assert causes._part_of_loss(unknown) == 0.0


GB = 1e9


@pytest.mark.parametrize(
    ("more", "other", "found"),
    [
        ({}, 7.0, {"bandwidth_before": 3e9, "bandwidth": 8e9, "most": 1e10}),
        ({}, 6.9, None),  # far from the most
        ({"mpki": 2.2}, 7.0,
         {"bandwidth_before": 3e9, "bandwidth": 8e9, "most": 1e10}),
        ({"mpki": 2.3}, 7.0, None),  # it needs more itself
        ({"mpki": None}, 7.0, None),
        ({"bandwidth": None}, 8.0, None),
        ({"bandwidth": {0: 3.5 * GB}}, 4.5,
         {"bandwidth_before": 3e9, "bandwidth": 8e9, "most": 1e10}),
        ({"bandwidth": {0: 3.6 * GB}}, 4.4, None),
    ],
)  # fmt: skip
def test_throttled(
    more: dict[str, Any], other: float, found: dict[str, float] | None
) -> None:
    before = {"v": seen(), "c": seen(bandwidth={0: 2 * GB, 1: 9 * GB})}
    since = {"v": seen(**more), "c": seen(bandwidth={0: other * GB})}
    assert causes._throttled(contrast(before, since)) == found


def test_memory_that_was_as_busy_before_is_no_reason() -> None:
    busy = {"v": seen(), "c": seen(bandwidth={0: 9 * GB})}
    assert causes._throttled(contrast(busy, busy)) is None


def test_the_most_of_its_memories() -> None:
    two = {"domains": HERE | THERE}
    found = change({}, two, most={0: 3 * LEAST_MOST, 1: 1.0, 2: 1e15})
    assert causes._most(found) == 4 * LEAST_MOST
    assert causes._tenth_of_most(found) == pytest.approx(0.4 * LEAST_MOST)


def test_what_goes_through_memories_is_added_up_once_for_all() -> None:
    these = {
        "v": seen(bandwidth={0: 1.0, 1: 2.0}),
        "c": seen(bandwidth={0: 4.0}),
        "x": seen(bandwidth=None),
    }
    found = contrast(these, these)
    (frame, *_) = found.before
    assert causes.total(frame, [0, 1]) == 7.0
    assert causes._total(frame, found) == causes.total(frame, HERE) == 5.0
    assert list(found.memo.values()) == [5.0]
    found.memo[id(frame), HERE] = 8.0
    assert causes._total(frame, found) == 8.0


def test_the_other_threads_of_its_cores() -> None:
    siblings = {0: frozenset({4, 8}), 2: frozenset({6}), 3: frozenset({7})}
    found = change({}, {"ran_on": frozenset({0, 2, 5})}, siblings=siblings)
    assert causes._other_threads(found) == {4, 6, 8}


@pytest.mark.parametrize(
    ("mpki", "found"), [(7.0, None), (6.9, {}), (2.0, {}), (None, {})]
)
def test_misses_that_explain_enough_are_not_the_core_s(
    mpki: float | None, found: dict[str, float] | None
) -> None:
    siblings = {0: frozenset({1})}
    since = {"cpi": 2.0, "mpki": mpki}
    assert causes._no_misses(change({}, since, siblings=siblings)) == found
    assert causes._no_misses(change({}, since)) is None


@pytest.mark.parametrize(
    ("excess", "least"), [(3.0, 2.0), (1.5, 0.5), (1.1, LEAST_CPUS)]
)
def test_what_it_takes_beside_it(excess: float, least: float) -> None:
    found = change({}, {}, excess=excess)
    assert causes._enough_beside(found) == pytest.approx(least)


@pytest.mark.parametrize(
    ("waited", "cpus", "least"),
    [(2.5, 1.0, 0.5), (2.5, 1.75, 0.75), (0.5, 1.0, None), (None, 1.0, None),
     (2.5, None, 0.0)],
)  # fmt: skip
def test_waiting(
    waited: float | None, cpus: float | None, least: float | None
) -> None:
    found = change({"waited": 0.5}, {"waited": waited, "cpus": cpus})
    symptoms = {"waited_before": 0.5, "waited": waited}
    told = causes._waits(found)
    assert told == (None if least is None else symptoms)
    if least is not None:
        assert causes._part_of_waiting(found) == least


def test_where_it_is_now_is_where_it_was_last() -> None:
    told = [{"v": seen(domains=frozenset({n}))} for n in range(4)]
    found = Contrast("v", frames(told[0]), frames(*told[1:]), [])
    assert causes._caches(found) == {3}


def test_where_each_cause_looks() -> None:
    found = change({}, {"domains": THERE, "allowed": frozenset({5})})
    assert causes._caches(found) == THERE
    assert causes._allowed(found) == {5}


# Who it is


def waiting(**others: tuple[float | None, float | None]) -> Contrast:
    """The victim waits for one CPU more; what others used of it."""
    same = frozenset({0})
    before = {"v": seen(waited=0.0, allowed=same)}
    since = {"v": seen(waited=1.0, allowed=same)}
    for name, (was, becomes) in others.items():
        before[name] = seen(cpus=was, allowed=same)
        since[name] = seen(cpus=becomes, allowed=same)
    return contrast(before, since)


def explained(found: Contrast) -> tuple[str | None, str | None]:
    explanation, why = CPU.explain(found)
    return None if explanation is None else explanation.guilt.culprit, why


@pytest.mark.parametrize(
    ("others", "culprit"),
    [
        ({"a": (0.5, 1.0), "b": (0.5, 0.8)}, "a"),
        ({"a": (0.5, 0.8), "b": (0.5, 1.0)}, "b"),
        ({"a": (0.5, 0.9), "b": (0.5, 0.9)}, "b"),
        ({"a": (0.5, 0.75)}, "a"),
        ({"a": (0.5, 0.74)}, None),  # less than a quarter of the waiting
        ({"a": (0.5, 0.5)}, None),
        ({"a": (1.0, 0.5)}, None),
        ({}, None),
        # Less than three tenths of what all take more.
        (dict.fromkeys("abc", (0.0, 1.0)), "c"),
        (dict.fromkeys("abcd", (0.0, 1.0)), None),
    ],
)
def test_who_rose_most(
    others: dict[str, tuple[float | None, float | None]], culprit: str | None
) -> None:
    assert explained(waiting(**others)) == (culprit, None)


def test_what_is_said_of_the_culprit() -> None:
    found, _ = CPU.explain(waiting(a=(0.5, 1.0)))
    assert found is not None
    assert found.cause == "cpu"
    assert found.evidence == {"waited_before": 0.0, "waited": 1.0}
    guilt = found.guilt
    assert (guilt.culprit, guilt.before, guilt.since) == ("a", 0.5, 1.0)
    assert guilt.correlation == pytest.approx(1.0)


def test_it_must_move_with_the_excess() -> None:
    """Not only be more on the whole."""
    other = (0.0, 0.0, 3.0, 3.0, 0.0, 1.0, 1.0, 1.0)
    same = frozenset({0})
    told = [
        {
            "v": seen(waited=float(number >= BEFORE), allowed=same),
            "a": seen(cpus=cpus, allowed=same),
        }
        for number, cpus in enumerate(other)
    ]
    found = Contrast(
        "v",
        frames(*told[:BEFORE]),
        frames(*told[BEFORE:]),
        [1.0] * BEFORE + [2.0] * SINCE,
    )
    assert causes._correlation(other, found.excess) < CORRELATION
    assert explained(found) == (None, None)


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"a": (0.5, 1.0), "b": (None, None)}, "1 neighbour without cpus"),
        ({"a": (None, 1.0), "b": (1.0, None)}, "2 neighbours without cpus"),
        ({"a": (None, None)}, "1 neighbour without cpus"),
    ],
)
def test_of_whom_too_little_is_known(
    others: dict[str, tuple[float | None, float | None]], why: str
) -> None:
    assert explained(waiting(**others)) == (None, why)


@pytest.mark.parametrize(
    ("more", "most", "matters"),
    [
        ({}, None, True),
        ({"cpus": LEAST_CPUS}, None, True),
        ({"cpus": 0.24}, None, False),
        ({"cpus": None}, 1e9, True),
        ({"domains": THERE}, None, False),
        ({"domains": frozenset()}, None, True),
        ({"mpki": 4.0}, 4.1, False),  # it rose by two
        ({"mpki": 4.0}, 4.0, False),
        ({"mpki": 4.0}, 3.9, True),
        ({"mpki": None}, 1e9, True),
    ],
)
def test_who_may_be_the_one(
    more: dict[str, Any], most: float | None, *, matters: bool
) -> None:
    these = {"v": seen(), "a": seen()}
    found = contrast(these, {"v": seen(), "a": seen(**more)})
    assert causes._may_matter("a", most, found) is matters
    gone = contrast(these, {"v": seen()})
    assert causes._may_matter("a", most, gone) is False


def test_one_cycle_of_several_is_enough_to_matter() -> None:
    quiet, busy = (
        {"a": seen(cpus=0.0), "v": seen()},
        {"a": seen(), "v": seen()},
    )
    found = Contrast("v", frames(busy), frames(quiet, busy, quiet), [])
    assert causes._may_matter("a", None, found) is True


@pytest.mark.parametrize(
    ("evidence", "strong"),
    [({"explains": 0.5}, True), ({"explains": 0.49}, False), ({}, True)],
)
def test_what_accounts_for_a_good_part(
    evidence: dict[str, float], *, strong: bool
) -> None:
    guilt = Guilt("c", 1.0, 0.0, 1.0)
    assert Explanation("llc", guilt, evidence).is_strong is strong


def test_who_takes_what_others_left_has_not_risen() -> None:
    """It holds more of the cache, and fetches as much as before."""
    more = {"occupancy": {0: 90.0}}
    before = {"v": seen(), "c": seen(occupancy={0: 10.0})}
    for fetched, rise in ((1e9, 0.0), (2e9, 80.0)):
        since = {
            "v": seen(),
            "c": seen(**more, bandwidth={0: fetched, 1: 9e9}),
        }
        changes = causes.LLC._changes(contrast(before, since))
        found = changes["c"]
        assert found is not None
        assert (found.before, found.rise) == (10.0, rise)


def test_less_is_no_rise() -> None:
    before, since = {"v": seen(), "c": seen()}, {"v": seen()}
    found = causes.LLC._changes(contrast(since, before))["c"]
    assert found is not None
    assert found.rise == found.since > 0
    gone = causes.LLC._changes(contrast(before, before))["c"]
    assert gone is not None
    assert gone.rise == 0
