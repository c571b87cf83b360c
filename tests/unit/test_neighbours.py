# SPDX-License-Identifier: Apache-2.0
"""Victims, causes and culprits, from made-up cycles of a made-up host."""

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ceilometer_perf.neighbours import causes
from ceilometer_perf.neighbours.history import (
    KEPT,
    LOADS,
    NEEDED,
    History,
)
from ceilometer_perf.neighbours.judge import (
    BEFORE,
    CALM,
    CYCLES,
    FEW,
    LEAST_BEFORE,
    LONG_PATIENCE,
    LONGEST,
    OLDEST,
    OTHER,
    PATIENCE,
    SIGNALS,
    UNKNOWN,
    Found,
    Interference,
    Judge,
    Signal,
    _key,
)
from ceilometer_perf.neighbours.observation import Frame, Observation
from tests.corun.run import FIRST

MIB = float(1 << 20)
SIBLINGS = {cpu: frozenset({cpu ^ 1}) for cpu in range(16)}
MINUTE = 60.0


def usual(first: int, **more: Any) -> Observation:
    """A quiet instance with two vCPUs, on the first threads of two cores."""
    values: dict[str, Any] = {
        "process": (first, 1),
        "counting": "since",
        "vcpus": 2,
        "cpus": 1.0,
        "waited": 0.0,
        "cpi": 1.0,
        "mpki": 2.0,
        "occupancy": {0: 8 * MIB},
        "bandwidth": {0: 1e9},
        "ran_on": frozenset({first, first + 2}),
        "allowed": frozenset({first, first + 2}),
        "domains": frozenset({0}),
    }
    return Observation(**{**values, **more})


class Host:
    """Three instances, one cycle a minute; ``set`` changes one of them."""

    def __init__(self) -> None:
        self.judge = Judge(SIBLINGS)
        self.now = 0.0
        self.seen = {"v": usual(0), "c": usual(4), "x": usual(8)}
        self.found = Found()

    def set(self, name: str, **more: Any) -> None:
        self.seen[name] = dataclasses.replace(self.seen[name], **more)

    def cycles(self, number: int = 1, after: float = MINUTE) -> Found:
        for _ in range(number):
            self.now += after
            self.found = self.judge.look(Frame(self.now, dict(self.seen)))
        return self.found

    @property
    def said(self) -> list[tuple[str, str, str]]:
        return [
            (each.victim, each.cause, each.culprit)
            for each in self.found.interferences
        ]

    def only(self) -> Interference:
        (one,) = self.found.interferences
        return one


def llc(host: Host) -> None:
    host.set("v", cpi=2.0, mpki=12.0, occupancy={0: 2 * MIB})
    host.set("c", occupancy={0: 24 * MIB}, bandwidth={0: 3e9})


def bandwidth(host: Host) -> None:
    host.set("v", cpi=2.0)
    host.set("c", bandwidth={0: 20e9}, occupancy={0: 9 * MIB})


def smt(host: Host) -> None:
    host.set("v", cpi=1.5)
    host.set("c", cpus=2.0, ran_on=frozenset({1, 3}))


def cpu(host: Host) -> None:
    host.set("v", cpus=0.5, waited=0.5)
    host.set("c", cpus=2.0, allowed=frozenset({0, 2}))


HARM = {"llc": llc, "bandwidth": bandwidth, "smt": smt, "cpu": cpu}
Harm = Callable[[Host], None]


@pytest.fixture
def host() -> Host:
    host = Host()
    host.cycles(NEEDED + 20)
    assert host.found == Found([], frozenset("vcx"), {})
    return host


@pytest.mark.parametrize("cause", HARM)
def test_each_cause(host: Host, cause: str) -> None:
    HARM[cause](host)
    host.cycles(CYCLES)
    assert host.said == [("v", cause, "c")]
    one = host.only()
    assert one.correlation > 0.9
    assert one.cycles == CYCLES
    assert one.loss == pytest.approx(1 / 3 if cause == "smt" else 0.5)
    assert one.numbers()["culprit"] > one.numbers()["culprit_before"]
    assert json.dumps(one.numbers())


@pytest.mark.parametrize("cause", HARM)
def test_never_before_three_cycles(host: Host, cause: str) -> None:
    HARM[cause](host)
    for _ in range(CYCLES - 1):
        assert host.cycles() == Found([], frozenset("vcx"), {})


@pytest.mark.parametrize("cause", HARM)
def test_a_usual_cycle_in_between_is_chance(host: Host, cause: str) -> None:
    calm = dict(host.seen)
    HARM[cause](host)
    harmed = dict(host.seen)
    for host.seen in (harmed, calm, harmed, calm):
        assert host.cycles().interferences == []
    host.seen = harmed
    host.cycles()
    assert host.said == [("v", cause, "c")]
    for host.seen in (calm, calm, harmed, calm, calm, harmed):
        host.cycles()
    assert host.said == []


@pytest.mark.parametrize("cause", HARM)
def test_it_ends_with_the_harm(host: Host, cause: str) -> None:
    before = dict(host.seen)
    HARM[cause](host)
    host.cycles(20)
    host.seen = before
    # One cycle may be chance.
    host.cycles(CALM - 1)
    assert host.said == [("v", cause, "c")]
    host.cycles()
    assert host.said == []
    assert host.found.judged == frozenset("vcx")


@pytest.mark.parametrize("cause", HARM)
def test_it_lasts_as_long_as_the_harm(host: Host, cause: str) -> None:
    HARM[cause](host)
    host.cycles(3 * KEPT)
    assert host.said == [("v", cause, "c")]
    assert host.only().cycles == 3 * KEPT


@pytest.mark.parametrize("name", ["new", "c"])
@pytest.mark.parametrize("cause", HARM)
def test_one_who_has_just_come_or_booted_is_a_culprit(
    host: Host, cause: str, name: str
) -> None:
    HARM[cause](host)
    come = dataclasses.replace(host.seen.pop("c"), process=(99, 1))
    host.seen[name] = dataclasses.replace(come, **FIRST)
    host.cycles()
    host.seen[name] = come
    host.cycles(CYCLES - 1)
    assert host.said == [("v", cause, name)]


@pytest.mark.parametrize("cause", HARM)
def test_one_whose_second_reading_does_not_come_either(
    host: Host, cause: str
) -> None:
    HARM[cause](host)
    come = dataclasses.replace(host.seen.pop("c"), process=(99, 1))
    host.seen["new"] = dataclasses.replace(come, **FIRST)
    host.cycles(2)
    host.seen["new"] = come
    host.cycles(CYCLES - 2)
    assert host.said == []


@pytest.mark.parametrize("cause", HARM)
def test_who_goes_is_none_any_more(host: Host, cause: str) -> None:
    HARM[cause](host)
    host.cycles(CYCLES)
    del host.seen["c"]
    host.cycles(2 * PATIENCE)
    assert host.said == []


# Innocent changes


def test_a_greater_working_set_of_its_own(host: Host) -> None:
    host.set("v", cpi=2.0, mpki=12.0, occupancy={0: 20 * MIB})
    host.set("c", occupancy={0: 4 * MIB}, mpki=2.1)
    host.cycles(CYCLES)
    assert host.said == []


def test_a_smaller_one_that_leaves_others_more(host: Host) -> None:
    # It misses more, of a program that reuses nothing.
    host.set("v", cpi=2.0, mpki=12.0, occupancy={0: 2 * MIB})
    host.set("c", occupancy={0: 14 * MIB}, bandwidth={0: 0.9e9})
    host.cycles(PATIENCE)
    assert host.said == []


def test_another_program_of_its_own(host: Host) -> None:
    host.set("v", cpi=2.0)
    host.cycles(PATIENCE)
    assert host.said == []
    # From then on it is usual.
    host.cycles(KEPT)
    assert host.found == Found([], frozenset("vcx"), {})
    track = host.judge._lives["v"].tracks["cpi"]
    assert track.cycles == 0


def test_streaming_of_its_own(host: Host) -> None:
    host.set("v", cpi=2.0, bandwidth={0: 20e9})
    host.cycles(PATIENCE)
    assert host.said == []


def test_more_work_of_its_own(host: Host) -> None:
    host.set("c", cpus=0.5, allowed=frozenset({0, 2}))
    host.cycles(20)
    # The other needs more as well, but less than it does.
    host.set("v", cpus=1.6, waited=0.4)
    host.set("c", cpus=0.8)
    host.cycles(PATIENCE)
    assert host.said == []


def test_its_own_quota(host: Host) -> None:
    host.set("v", cpus=0.5, waited=0.5)
    host.cycles(PATIENCE)
    assert host.said == []


def test_busy_neighbours_harm_nobody_who_is_not_slower(host: Host) -> None:
    host.set("c", cpus=2.0, occupancy={0: 24 * MIB}, bandwidth={0: 20e9})
    host.cycles(PATIENCE)
    assert host.said == []


def test_what_moves_elsewhere_explains_nothing(host: Host) -> None:
    for harm in (llc, bandwidth):
        harm(host)
        seen = host.seen["c"]
        host.set(
            "c",
            domains=frozenset({1}),
            occupancy={1: seen.occupancy and seen.occupancy[0]},
            bandwidth={1: seen.bandwidth and seen.bandwidth[0]},
        )
        host.cycles(PATIENCE)
        assert host.said == []


def test_less_than_a_tenth_is_nothing(host: Host) -> None:
    llc(host)
    host.set("v", cpi=1.09)
    host.cycles(PATIENCE)
    assert host.said == []


def test_misses_that_can_not_cost_so_much(host: Host) -> None:
    llc(host)
    host.set("v", cpi=2.0, mpki=2.5)
    host.cycles(CYCLES)
    assert host.said == []


def test_far_from_the_most_that_memory_delivers(host: Host) -> None:
    bandwidth(host)
    host.set("c", bandwidth={0: 4e9})
    host.cycles(PATIENCE)
    assert host.said == []


def test_the_most_is_learned(host: Host) -> None:
    host.set("x", bandwidth={0: 60e9})
    host.cycles(CYCLES)
    host.set("x", bandwidth={0: 1e9})
    host.cycles(20)
    bandwidth(host)
    host.cycles(PATIENCE)
    assert host.said == []


def test_a_rise_that_does_not_move_with_the_excess(host: Host) -> None:
    llc(host)
    taken = host.seen["c"].occupancy
    # It takes that half of the time, and harms nobody.
    host = Host()
    for turn in range(NEEDED + 20):
        host.set("c", occupancy={0: (24 if turn % 2 else 8) * MIB})
        host.cycles()
    host.set("v", cpi=2.0, mpki=12.0, occupancy={0: 2 * MIB})
    host.set("c", occupancy=taken)
    host.cycles()
    host.set("c", occupancy={0: 8 * MIB})
    host.cycles(CYCLES)
    assert host.said == []


# What can't be told


@pytest.mark.parametrize(
    ("slower", "causes"),
    [
        ({"cpi": 2.0}, "llc/bandwidth/smt"),
        ({"cpus": 0.5, "waited": 0.5}, "cpu"),
    ],
)
def test_an_unknown_cause_is_said_until_it_is_the_instances_own(
    host: Host, slower: dict[str, Any], causes: str
) -> None:
    host.set("v", **slower)
    host.cycles(CYCLES - 1)
    for _ in range(PATIENCE - CYCLES):
        host.cycles()
        assert host.said == []
        assert host.found.untold == {"v": {causes: UNKNOWN}}
        assert host.found.judged == frozenset("cx")
    assert host.cycles() == Found([], frozenset("vcx"), {})


@pytest.mark.parametrize(
    ("harm", "missing", "causes"),
    [
        (llc, "occupancy", {"llc"}),
        (llc, "mpki", {"llc", "bandwidth"}),
        (bandwidth, "bandwidth", {"bandwidth"}),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_what_was_missing_for_one_cycle(
    host: Host, harm: Harm, missing: str, causes: set[str], late: bool
) -> None:
    """It may be what would have explained the others."""
    if late:
        harm(host)
    there = getattr(host.seen["v"], missing)
    host.set("v", **{missing: None}, missing={missing: "it is implausible"})
    host.cycles()
    harm(host)
    host.set("v", **{missing: getattr(host.seen["v"], missing) or there})
    host.cycles(CYCLES - late)
    assert host.said == []
    assert host.found.untold["v"] == dict.fromkeys(causes, "it is implausible")
    assert "v" not in host.found.judged


@pytest.mark.parametrize(
    ("missing", "cause"),
    [("cpi", "llc/bandwidth/smt"), ("cpus", "cpu"), ("waited", "cpu")],
)
def test_without_what_a_cost_is_made_of(
    host: Host, missing: str, cause: str
) -> None:
    host.set("v", **{missing: None}, missing={missing: "it is detached"})
    host.cycles()
    assert host.found.untold["v"][cause] == "it is detached"
    assert ("v" in host.found.judged) == (missing != "cpus")


@pytest.mark.parametrize(
    ("harm", "missing", "causes"),
    [
        (llc, "occupancy", {"llc"}),
        (llc, "mpki", {"llc", "bandwidth"}),
        (bandwidth, "bandwidth", {"bandwidth"}),
    ],
)
def test_without_what_a_cause_needs(
    host: Host, harm: Harm, missing: str, causes: set[str]
) -> None:
    host.set("v", **{missing: None}, missing={missing: "no RMID is free"})
    assert host.cycles(20).judged == frozenset("vcx")
    harm(host)
    host.set("v", **{missing: None})
    host.cycles(CYCLES)
    assert host.said == []
    assert host.found.untold["v"] == dict.fromkeys(causes, "no RMID is free")
    assert "v" not in host.found.judged


def unmonitored(host: Host, **more: Any) -> None:
    host.set("x", occupancy=None, **more)
    host.cycles(20)


def test_a_neighbour_of_which_too_little_is_known(host: Host) -> None:
    unmonitored(host)
    llc(host)
    # It misses as much more as the one that is known.
    host.set("c", mpki=8.0)
    host.set("x", mpki=8.0)
    host.cycles(CYCLES)
    assert host.said == []
    assert host.found.untold["v"] == {"llc": "1 neighbour without occupancy"}
    assert "v" not in host.found.judged


@pytest.mark.parametrize(
    "innocent",
    [
        {"mpki": 2.0},
        {"mpki": 4.0},
        {"mpki": 8.0, "cpus": 0.1},
        {"mpki": 8.0, "domains": frozenset({1})},
    ],
)
def test_one_that_can_not_be_the_culprit(
    host: Host, innocent: dict[str, Any]
) -> None:
    unmonitored(host)
    llc(host)
    host.set("c", mpki=8.0)
    host.set("x", **innocent)
    host.cycles(CYCLES)
    assert host.said == [("v", "llc", "c")]


@pytest.mark.parametrize("unknown", ["mpki", "cpi"])
def test_one_whose_counters_are_withheld_as_well(
    host: Host, unknown: str
) -> None:
    unmonitored(host, **{unknown: None})
    llc(host)
    host.cycles(CYCLES)
    assert host.said == []
    assert host.found.untold["v"] == {"llc": "1 neighbour without occupancy"}


def test_in_doubt_nothing_is_learned_but_for_a_long_time(host: Host) -> None:
    unmonitored(host, mpki=None)
    llc(host)
    host.cycles(LONG_PATIENCE - 1)
    assert "v" not in host.found.judged
    host.seen["v"], host.seen["c"] = usual(0), usual(4)
    host.cycles(20)
    # It can be seen next time.
    host.set("x", occupancy={0: 8 * MIB}, mpki=2.0)
    host.cycles(20)
    llc(host)
    host.cycles(CYCLES)
    assert host.said == [("v", "llc", "c")]


def test_who_hardly_runs(host: Host) -> None:
    host.set("v", cpus=0.1)
    host.cycles()
    why = "it uses less than 0.25 CPUs"
    assert host.found.untold["v"] == {"llc/bandwidth/smt": why, "cpu": why}
    assert "v" not in host.found.judged


def test_too_little_history() -> None:
    host = Host()
    llc(host)
    host.cycles(NEEDED)
    why = f"{NEEDED} of {NEEDED} cycles of history"
    assert host.found.untold["v"] == {"llc/bandwidth/smt": why, "cpu": why}
    assert host.found.judged == frozenset()
    assert host.cycles().judged == frozenset("vcx")


def test_who_never_rests_has_one_load() -> None:
    host = Host()
    for turn in range(NEEDED + 1):
        host.set("v", cpus=2.01 if turn % 2 else 1.99)
        host.cycles()
    assert "v" in host.found.judged


# Broken evidence


def test_a_harm_that_begins_with_other_counters(host: Host) -> None:
    host.set("v", counting="another since")
    llc(host)
    host.cycles(CYCLES)
    assert host.said == []
    assert host.found.untold["v"] == {
        "llc/bandwidth/smt": f"it is slower, with 0 of {LEAST_BEFORE} usual "
        "cycles before to compare with"
    }
    assert "v" not in host.found.judged


@pytest.mark.parametrize("cause", HARM)
def test_counters_that_restart_end_a_verdict(host: Host, cause: str) -> None:
    HARM[cause](host)
    host.cycles(CYCLES)
    host.set("v", counting="another since")
    host.cycles(PATIENCE)
    assert host.said == []


@pytest.mark.parametrize("cause", HARM)
def test_another_process_is_another_instance(host: Host, cause: str) -> None:
    HARM[cause](host)
    host.cycles(CYCLES)
    host.set("v", process=(9, 9))
    host.cycles(NEEDED)
    assert host.said == []
    assert "v" not in host.found.judged


@pytest.mark.parametrize("process", [(0, 1), (9, 9)])
def test_a_process_that_is_not_seen_once(
    host: Host, process: tuple[int, int]
) -> None:
    """What was usual still is, unless it is another one by then."""
    seen = host.seen["v"]
    nothing = dict.fromkeys(("cpi", "cpus", "waited"))
    host.set("v", process=None, counting=None, **nothing)
    assert host.cycles(2).judged == frozenset("cx")
    host.seen["v"] = dataclasses.replace(seen, process=process)
    same = process == seen.process
    assert ("v" in host.cycles().judged) is same
    host.cycles(LEAST_BEFORE)
    llc(host)
    host.cycles(CYCLES)
    assert host.said == [("v", "llc", "c")] * same


@pytest.mark.parametrize("missing", ["cpi", "cpus"])
def test_a_cycle_without_counters_starts_over(
    host: Host, missing: str
) -> None:
    llc(host)
    host.cycles(CYCLES - 1)
    value = getattr(host.seen["v"], missing)
    host.set("v", **{missing: None})
    host.cycles()
    host.set("v", **{missing: value})
    host.cycles(CYCLES - 1)
    assert host.said == []
    host.cycles()
    assert host.said == [("v", "llc", "c")]


def test_a_gap_starts_over(host: Host) -> None:
    llc(host)
    host.cycles(CYCLES - 1)
    host.cycles(after=LONGEST + 1)
    host.cycles(CYCLES - 2)
    assert host.said == []
    host.cycles()
    assert host.said == [("v", "llc", "c")]


def test_a_long_cycle_is_no_gap(host: Host) -> None:
    llc(host)
    host.cycles(CYCLES - 1)
    host.cycles(after=LONGEST)
    assert host.said == [("v", "llc", "c")]


def test_what_was_long_ago_is_not_compared_with(host: Host) -> None:
    host.set("v", cpi=None)
    host.cycles(after=OLDEST)
    llc(host)
    host.set("v", cpi=2.0)
    host.cycles(CYCLES)
    assert host.said == []
    assert "v" in host.found.untold


def test_who_migrates_away_is_forgotten(host: Host) -> None:
    del host.seen["v"]
    host.cycles()
    assert host.judge._lives.keys() == {"c", "x"}


# Over restarts of the agent


def test_what_is_usual_outlives_the_agent(host: Host) -> None:
    saved = json.loads(json.dumps(host.judge.saved()))
    host.judge = Judge(SIBLINGS)
    host.judge.restore(saved)
    assert host.cycles().judged == frozenset("vcx")
    host.cycles(LEAST_BEFORE - 1)
    llc(host)
    host.cycles(CYCLES)
    assert host.said == [("v", "llc", "c")]
    assert host.only().loss == pytest.approx(0.5)


def test_a_verdict_does_not(host: Host) -> None:
    llc(host)
    host.cycles(CYCLES)
    saved = json.loads(json.dumps(host.judge.saved()))
    host.judge = Judge(SIBLINGS)
    host.judge.restore(saved)
    host.cycles(2 * PATIENCE)
    assert host.said == []
    assert "v" not in host.found.judged


def test_another_process_begins_without(host: Host) -> None:
    saved = json.loads(json.dumps(host.judge.saved()))
    host.judge = Judge(SIBLINGS)
    host.judge.restore(saved)
    host.set("v", process=(9, 9))
    assert host.cycles().judged == frozenset("cx")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"most": [], "lives": {}},
        {"most": {}, "lives": {"v": {}}},
        {"most": {}, "lives": {"v": {"process": 1}}},
        {"most": {"a": 1}, "lives": {}},
        {
            "most": {},
            "lives": {"v": {"process": [1, 2], "cpi": {"": []}}},
        },
        *(
            {
                "most": {"0": 1},
                "lives": {
                    "v": {
                        "process": [1, 2],
                        "cpi": {},
                        "stretch": {"1@0": [1.0, cost]},
                    }
                },
            }
            for cost in (10**400, math.nan, math.inf, "x", None)
        ),
    ],
)
def test_what_was_not_saved_is_refused(wrong: Any) -> None:
    judge = Judge(SIBLINGS)
    with pytest.raises(ValueError, match=f"^{OTHER}$"):
        judge.restore(wrong)
    assert judge.saved() == {"most": {}, "lives": {}}


# The fence


def test_the_fence_is_robust() -> None:
    history = History()
    for value in [1.0, 1.1] * 30 + [50.0] * 10:
        history.add((1, "0"), value)
    usual = history.usual((1, "0"))
    assert usual is not None
    assert usual.median == pytest.approx(1.1, abs=0.1)
    assert usual.fence < 2


@pytest.mark.parametrize(
    ("values", "median", "fence"),
    [
        # Three sigmas: 1.4826 times the median absolute deviation each.
        ([8.0, 10.0, 12.0], 10.0, 10 + 3 * 1.4826 * 2),
        # A tenth of the median, where it hardly ever changes.
        ([10.0], 10.0, 11.0),
        ([0.5], 0.5, 0.55),
    ],
)
def test_where_the_fence_is(
    values: list[float], median: float, fence: float
) -> None:
    history = History()
    for _ in range(NEEDED):
        for value in values:
            history.add((1, "0"), value)
    found = history.usual((1, "0"))
    assert found is not None
    assert (found.median, found.fence) == pytest.approx((median, fence))


def test_the_fence_follows_every_fifth_cycle() -> None:
    history, seen = History(), []
    for number in range(1, KEPT + 1):
        history.add((1, "0"), float(number))
        seen.append(history.usual((1, "0")))
    moved = [
        number
        for number, (one, other) in enumerate(itertools.pairwise(seen), 2)
        if one != other
    ]
    assert moved == list(range(NEEDED, KEPT + 1, 5))


def test_what_is_restored_forgets_as_well() -> None:
    history = History()
    history.restore({"1@0,2": [1.0] * KEPT})
    for _ in range(KEPT):
        history.add((1, "0,2"), 2.0)
    assert history.saved() == {"1@0,2": [2.0] * KEPT}


@pytest.mark.parametrize(
    ("load", "step"),
    [
        ({"cpus": 0.0, "waited": 0.0}, 0),
        ({"cpus": 0.9, "waited": 0.0}, 0),
        ({"cpus": 1.0, "waited": 0.0}, 1),
        ({"cpus": 0.5, "waited": 0.5}, 1),
        ({"cpus": 2.0, "waited": 0.0}, 2),
        ({"cpus": 3.0, "waited": 0.9}, 3),
        ({"cpus": 4.0, "waited": 0.0}, 3),
        ({"cpus": None, "waited": 1.0}, 1),
        ({"cpus": 1.0, "waited": None}, 1),
        ({"vcpus": 1, "cpus": 0.5, "waited": 0.0}, 2),
        ({"vcpus": 0, "cpus": 0.5, "waited": 0.0}, 2),
    ],
)
def test_loads_are_told_apart_by_quarters(
    load: dict[str, Any], step: int
) -> None:
    """Of what its vCPUs want."""
    seen = usual(0, **{"vcpus": 4, "domains": frozenset({3, 0}), **load})
    assert _key(seen) == (step, "0,3")


@pytest.mark.parametrize(("cpus", "judged"), [(0.25, True), (0.24, False)])
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda each: each.name)
def test_who_hardly_runs_has_no_cost(
    signal: Signal, cpus: float, *, judged: bool
) -> None:
    found = signal.cost(usual(0, cpus=cpus))
    assert isinstance(found, float) is judged


def test_numbers_are_for_people() -> None:
    one = Interference(
        "v", "c", "llc", 0.123456, 0.987654, 4, {"excess": 1.234567}
    )
    assert one.numbers() == {
        "loss": 0.1235,
        "correlation": 0.9877,
        "cycles": 4,
        "excess": 1.2346,
    }


def test_how_much_slower() -> None:
    host = Host()
    host.set("v", cpi=2.0)
    host.cycles(NEEDED + 20)
    llc(host)
    host.set("v", cpi=5.0)
    host.cycles(CYCLES)
    numbers = host.only().numbers()
    assert (numbers["excess"], numbers["loss"]) == (2.5, 0.6)
    assert numbers["cycles_before"] == BEFORE


@pytest.mark.parametrize(("cpi", "slower"), [(1.1, False), (1.11, True)])
def test_at_the_fence_nothing_is_slower(
    host: Host, cpi: float, *, slower: bool
) -> None:
    llc(host)
    host.set("v", cpi=cpi)
    host.cycles(CYCLES)
    assert host.said == [("v", "llc", "c")] * slower


def test_loads_have_fences_of_their_own() -> None:
    history = History()
    for _ in range(NEEDED):
        history.add((0, "0"), 1.0)
        history.add((3, "0"), 2.0)
    found = {
        step: usual.median
        for step in range(5)
        if (usual := history.usual((step, "0")))
    }
    assert found == {0: 1.0, 1: 1.0, 2: 2.0, 3: 2.0, 4: 2.0}
    assert history.usual((0, "1")) is None


def test_no_more_is_kept_than_is_used() -> None:
    history = History()
    for value in range(3 * KEPT):
        history.add((0, ""), float(value))
    assert history.cycles((0, "")) == KEPT
    assert history.saved() == {
        "0@": [float(value) for value in range(2 * KEPT, 3 * KEPT)]
    }


def test_many_victims_at_once_cost_no_more_than_they_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What suspects did is the same for all who share the same with them."""
    looked: list[str] = []
    real = causes._series

    def series(uuid: str, *more: Any) -> Any:
        looked.append(uuid)
        return real(uuid, *more)

    monkeypatch.setattr(causes, "_series", series)
    host = Host()
    everywhere = frozenset(range(16))
    host.seen = {
        f"v{n}": usual(n % 8, allowed=everywhere) for n in range(20)
    } | {"c": usual(9, allowed=everywhere)}
    host.cycles(NEEDED + 20)
    for n in range(20):
        host.set(f"v{n}", cpus=0.5, waited=0.5)
    host.set("c", cpus=2.0)
    host.cycles(CYCLES)
    assert sorted(host.said) == sorted(
        (f"v{n}", "cpu", "c") for n in range(20)
    )
    # Each once, and the worst one for each victim; not 20 times 20.
    assert len(looked) < 100
    assert host.judge._memo == {}


def test_what_one_victim_shares_is_not_what_another_does(host: Host) -> None:
    """At the same time, on other CPUs."""
    host.set("c", allowed=frozenset({0, 2}))
    host.set("x", allowed=frozenset({8, 10}))
    host.seen["w"] = usual(8)
    host.seen["d"] = usual(12)
    host.cycles(NEEDED + 20)
    for victim in "vw":
        host.set(victim, cpus=0.5, waited=0.5)
    host.set("c", cpus=2.0)
    host.set("x", cpus=2.0)
    host.cycles(CYCLES)
    assert sorted(host.said) == [("v", "cpu", "c"), ("w", "cpu", "x")]


# Instances that float over many L3 caches


def floating(number: int, chance: random.Random) -> dict[str, Any]:
    """Where eight vCPUs happen to be, of so many caches."""
    here = frozenset(chance.choices(range(number), k=8))
    return {
        "vcpus": 8,
        "cpus": 4.0,
        "domains": here,
        "reach": frozenset(range(number)),
        "occupancy": dict.fromkeys(here, MIB),
        "bandwidth": dict.fromkeys(here, 1e8),
    }


def test_one_that_floats_over_many_caches_is_judged() -> None:
    host, chance = Host(), random.Random(7)
    for _ in range(3 * NEEDED):
        host.set("v", **floating(16, chance))
        host.cycles()
    assert host.found == Found([], frozenset("vcx"), {})
    for _ in range(CYCLES):
        host.set("v", **floating(16, chance), waited=4.0)
        host.set("c", cpus=8.0, allowed=host.seen["v"].allowed)
        host.cycles()
    assert host.said == [("v", "cpu", "c")]


def test_it_takes_no_more_memory_from_day_to_day() -> None:
    host, chance = Host(), random.Random(7)
    for _ in range(500):
        host.set("v", **floating(16, chance))
        host.cycles()
    history = host.judge._lives["v"].tracks["cpi"].history
    assert len(history.saved()) <= 8


@pytest.mark.parametrize(
    ("reach", "where"),
    [((), "0,3"), (range(FEW), "0,3"), (range(FEW + 1), "2 of 5")],
)
def test_of_few_caches_each_set_is_told_apart(
    reach: Sequence[int], where: str
) -> None:
    seen = usual(0, domains=frozenset({3, 0}), reach=frozenset(reach))
    assert _key(seen) == (2, where)


def test_loads_of_long_ago_are_forgotten() -> None:
    history = History()
    for load in range(2 * LOADS):
        for value in (1.0, 2.0):
            history.add((load, ""), value)
        history.add((0, ""), 3.0)
    saved = history.saved()
    assert len(saved) == LOADS
    assert saved["0@"] == [3.0] * KEPT
    assert saved[f"{2 * LOADS - 1}@"] == [1.0, 2.0]
    assert f"{LOADS}@" not in saved
    assert history._added.keys() == history._values.keys()
    history = History()
    history.restore({f"{load}@": [1.0] for load in range(2 * LOADS)})
    assert history.saved().keys() == {
        f"{load}@" for load in range(LOADS, 2 * LOADS)
    }
