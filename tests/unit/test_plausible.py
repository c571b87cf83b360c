# SPDX-License-Identifier: Apache-2.0
"""A PMU that opens events, and does not count them."""

from datetime import UTC, datetime, timedelta

import pytest

from ceilometer_perf.bounds import BOUNDS, CYCLES, Bound, beyond
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.plausible import STILL, Plausibility
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.processes import Process
from ceilometer_perf.meters import HARDWARE_KEYS
from ceilometer_perf.reading import Moment
from tests.unit.fakes import READ_AT

CLOCK, FAULTS = "perf.task_clock", "perf.page_faults_maj"
INSTRUCTIONS, MISSES = "perf.instructions", "perf.cache_misses"
SECOND = 1_000_000_000
#: A second of CPU time of an ordinary CPU.
USUAL = {
    CYCLES: 3 * SECOND,
    INSTRUCTIONS: 4 * SECOND,
    MISSES: 1000,
    CLOCK: SECOND,
}


def answer(
    cpu: float, counters: dict[str, int], *, since: int = 0,
    seen: bool = True, given: Judgement = verdicts.OK,
) -> Answer:  # fmt: skip
    judged = Judged(
        dict.fromkeys(counters, given),
        1.0,
        READ_AT + timedelta(seconds=since),
    )
    process = Process(7, 100, 1, int(cpu * SECOND)) if seen else None
    return Answer(
        "libvirt", Moment(1.0, datetime.now(UTC)), process, counters,
        judged.trusted(counters), judged,
    )  # fmt: skip


@pytest.fixture
def plausibility() -> Plausibility:
    return Plausibility(SECOND)


def after(
    plausibility: Plausibility, seconds: float, growth: dict[str, int]
) -> dict[str, Verdict]:
    """Growing from what they were when they were new."""
    base = dict.fromkeys(growth, 123_456_789)
    plausibility.judged("web", answer(50, base, given=verdicts.NEW))
    now = {key: base[key] + grown for key, grown in growth.items()}
    found = plausibility.judged("web", answer(50 + seconds, now))
    given = found.judged.judgements
    assert found.trusted.keys() == {
        key for key in now if given[key] is verdicts.OK
    }
    return {key: given[key].verdict for key in now}


def test_a_usual_cpu(plausibility: Plausibility) -> None:
    assert set(after(plausibility, 1, USUAL).values()) == {Verdict.OK}


def test_a_pmu_that_stands_still(plausibility: Plausibility) -> None:
    """All of it is withheld, and what needs no PMU isn't."""
    still = dict.fromkeys(USUAL, 0) | {CLOCK: SECOND}
    found = after(plausibility, 1, still)
    assert found.pop(CLOCK) is Verdict.OK
    assert set(found.values()) == {Verdict.IMPLAUSIBLE}


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.key)
def test_bounds(bound: Bound) -> None:
    for factor, rate in (0.9, bound.least), (1.1, bound.most):
        if not rate:
            continue
        per = SECOND if bound.per_cycle else 1
        growth = {CYCLES: SECOND}
        for scale, verdict in (1.0, Verdict.OK), (factor, Verdict.IMPLAUSIBLE):
            growth[bound.key] = round(rate * per * scale)
            found = after(Plausibility(SECOND), 1, growth)
            assert found[bound.key] is verdict, (rate, scale)


def test_why() -> None:
    cycles = {CYCLES: 4e9, INSTRUCTIONS: 0, MISSES: 0}
    assert dict(beyond(cycles, 2)) == {
        INSTRUCTIONS: "0 instructions in a cycle"
    }
    assert dict(beyond({INSTRUCTIONS: 0}, 2)) == {
        INSTRUCTIONS: "0 instructions in a second of CPU time"
    }


def test_only_that_counter(plausibility: Plausibility) -> None:
    found = after(plausibility, 1, {**USUAL, INSTRUCTIONS: 0})
    assert {k for k, v in found.items() if v is not Verdict.OK} == {
        INSTRUCTIONS
    }


def test_little_use_is_no_evidence(plausibility: Plausibility) -> None:
    growth = {CYCLES: 0, CLOCK: SECOND}
    assert after(plausibility, 0.9, growth)[CYCLES] is Verdict.OK
    assert after(Plausibility(SECOND), 1.0, growth)[CYCLES] is (
        Verdict.IMPLAUSIBLE
    )


@pytest.mark.parametrize(
    ("instructions", "verdict"),
    [
        (0, Verdict.IMPLAUSIBLE),
        (19_999, Verdict.IMPLAUSIBLE),
        (20_000, Verdict.OK),
        (160 * SECOND, Verdict.OK),
        (161 * SECOND, Verdict.IMPLAUSIBLE),
    ],
)
def test_without_cycles_the_time_tells(
    plausibility: Plausibility, instructions: int, verdict: Verdict
) -> None:
    """Those of the slowest and of the fastest clock."""
    found = after(plausibility, 1, {INSTRUCTIONS: instructions, MISSES: 0})
    assert found == {INSTRUCTIONS: verdict, MISSES: Verdict.OK}


def test_counters_of_the_whole_life_need_no_second_look(
    plausibility: Plausibility,
) -> None:
    """The first number that is published may be the wrong one."""
    stuck = answer(50, {CYCLES: 123_456_789, CLOCK: 50 * SECOND})
    assert plausibility.judged("web", stuck).trusted == {CLOCK: 50 * SECOND}
    usual = {key: 50 * grown for key, grown in USUAL.items()}
    assert plausibility.judged("db", answer(50, usual)).trusted == usual


def test_what_stands_still_for_long(plausibility: Plausibility) -> None:
    """Caches may rest for a second, and faults for ever."""
    seconds = STILL // SECOND
    usual = {**USUAL, MISSES: 0, FAULTS: 0}
    for cpu in range(1, 2 * seconds):
        now = {key: cpu * grown for key, grown in usual.items()}
        now[MISSES] = int(cpu > seconds)
        found = plausibility.judged("web", answer(cpu, now))
        expected = (
            now
            if cpu < seconds
            else {k: v for k, v in now.items() if k != MISSES}
        )
        assert found.trusted == expected, cpu
    assert "no cache_misses in 60 s" in str(found.judged.judgements[MISSES])


def test_standing_still_begins_again(plausibility: Plausibility) -> None:
    for cpu, misses, trusted in (
        (60, 1, True), (119, 1, True), (120, 1, False),
    ):  # fmt: skip
        now = {CYCLES: cpu * SECOND, MISSES: misses}
        found = plausibility.judged("web", answer(cpu, now))
        assert (MISSES in found.trusted) is trusted, cpu


def test_without_a_process_nothing_is_known() -> None:
    blind = Plausibility(SECOND)
    for cycles in (5, 5):
        found = blind.judged("web", answer(9, {CYCLES: cycles}, seen=False))
        assert found.trusted == {CYCLES: 5}


def test_it_lasts_as_long_as_the_counters(plausibility: Plausibility) -> None:
    """What was not counted is missing in all that they count later."""
    after(plausibility, 1, {CYCLES: 0})
    later = {CYCLES: 123_456_789 + 9 * SECOND}
    found = plausibility.judged("web", answer(54, later))
    assert found.trusted == {}
    assert "0 cpu_cycles in a second" in str(found.judged.judgements[CYCLES])
    restarted = {CYCLES: SECOND}
    found = plausibility.judged("web", answer(3, restarted, since=9))
    assert found.trusted == restarted


def test_growth_is_that_since_the_last_look(
    plausibility: Plausibility,
) -> None:
    after(plausibility, 1, {CYCLES: 3 * SECOND})
    now = {CYCLES: 123_456_789 + 3 * SECOND}
    assert plausibility.judged("web", answer(51.9, now)).trusted == now
    assert plausibility.judged("web", answer(52, now)).trusted == {}


def test_what_is_withheld_is_not_looked_at(
    plausibility: Plausibility,
) -> None:
    for cpu in (50, 55):
        found = plausibility.judged(
            "web", answer(cpu, {CYCLES: 5}, given=verdicts.FELL)
        )
        assert found.judged.judgements[CYCLES] is verdicts.FELL


def test_instances_are_apart_and_forgotten(plausibility: Plausibility) -> None:
    after(plausibility, 1, {CYCLES: 0})
    usual = {CYCLES: 51 * SECOND}
    assert plausibility.judged("db", answer(51, usual)).trusted == usual
    plausibility.forget_all_but({"web"})
    assert list(plausibility._lives) == ["web"]


def test_all_hardware_is_meant() -> None:
    assert {bound.key for bound in BOUNDS} <= HARDWARE_KEYS
