# SPDX-License-Identifier: Apache-2.0
"""A PMU that opens events, and does not count them."""

from datetime import UTC, datetime, timedelta

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.plausible import BOUNDS, Bound, Plausibility
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.host.processes import Process
from ceilometer_perf.meters import HARDWARE_KEYS
from ceilometer_perf.reading import Moment
from tests.unit.fakes import READ_AT

CYCLES, CLOCK = "perf.cpu_cycles", "perf.task_clock"
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
    seen: bool = True, withheld: tuple[str, ...] = (),
) -> Answer:  # fmt: skip
    judged = Judged(
        {k: verdicts.FELL if k in withheld else verdicts.OK for k in counters},
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
    """Growing from where a PMU that once counted stood."""
    base = dict.fromkeys(growth, 123_456_789)
    plausibility.judged("web", answer(50, base))
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
        per = SECOND if bound.per else 1
        growth = {CYCLES: SECOND}
        for scale, verdict in (1.0, Verdict.OK), (factor, Verdict.IMPLAUSIBLE):
            growth[bound.key] = round(rate * per * scale)
            found = after(Plausibility(SECOND), 1, growth)
            assert found[bound.key] is verdict, (rate, scale)


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


def test_without_cycles_or_a_process_nothing_is_known(
    plausibility: Plausibility,
) -> None:
    assert after(plausibility, 1, {INSTRUCTIONS: 0}) == {
        INSTRUCTIONS: Verdict.OK
    }
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
    found = plausibility.judged("web", answer(55, {CYCLES: 5}, since=9))
    assert found.trusted == {CYCLES: 5}


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
            "web", answer(cpu, {CYCLES: 5}, withheld=(CYCLES,))
        )
        assert found.judged.judgements[CYCLES] is verdicts.FELL


def test_instances_are_apart_and_forgotten(plausibility: Plausibility) -> None:
    after(plausibility, 1, {CYCLES: 0})
    assert plausibility.judged("db", answer(51, {CYCLES: 5})).trusted
    plausibility.forget_all_but({"web"})
    assert list(plausibility._lives) == ["web"]


def test_all_hardware_is_meant() -> None:
    assert {bound.key for bound in BOUNDS} <= HARDWARE_KEYS
