# SPDX-License-Identifier: Apache-2.0
"""What is computed from two readings of one life."""

from datetime import UTC, datetime

import pytest

from ceilometer_perf.counters.derived import FORMULAS, Derived
from ceilometer_perf.meters import METERS, PERF_KEYS

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = {
    "perf.cpu_cycles": 1000,
    "perf.instructions": 5000,
    "perf.cache_references": 100,
    "perf.cache_misses": 50,
    "perf.branch_instructions": 10,
    "perf.branch_misses": 1,
}
SECOND = {
    "perf.cpu_cycles": 3000,
    "perf.instructions": 9000,
    "perf.cache_references": 300,
    "perf.cache_misses": 60,
    "perf.branch_instructions": 110,
    "perf.branch_misses": 3,
}


def test_growth_over_growth() -> None:
    derived = Derived()
    assert derived.compute("u", 0, SINCE, FIRST) == {}
    assert derived.compute("u", 60, SINCE, SECOND) == {
        "perf.derived.ipc": 2.0,
        "perf.derived.cache_miss_ratio": 5.0,
        "perf.derived.branch_miss_ratio": 2.0,
        "perf.derived.cache_mpki": 2.5,
    }


@pytest.mark.parametrize("missing", FIRST)
@pytest.mark.parametrize("where", ["first", "second"])
def test_a_counter_that_is_not_trusted_derives_nothing(
    missing: str, where: str
) -> None:
    first, second = dict(FIRST), dict(SECOND)
    del (first if where == "first" else second)[missing]
    derived = Derived()
    derived.compute("u", 0, SINCE, first)
    values = derived.compute("u", 60, SINCE, second)
    for formula in FORMULAS:
        uses = missing in (formula.over, formula.under)
        assert (formula.meter.key in values) is not uses


def test_not_across_a_restart() -> None:
    derived = Derived()
    derived.compute("u", 0, SINCE, FIRST)
    later = datetime(2026, 1, 2, tzinfo=UTC)
    assert derived.compute("u", 60, later, SECOND) == {}


def test_nothing_ran_derives_nothing() -> None:
    derived = Derived()
    derived.compute("u", 0, SINCE, FIRST)
    assert derived.compute("u", 60, SINCE, FIRST) == {}


def test_two_sources_at_the_same_time_use_the_longer_window() -> None:
    derived = Derived()
    derived.compute("u", 0, SINCE, FIRST)
    halfway = {key: value + 1 for key, value in FIRST.items()}
    assert derived.compute("u", 0.01, SINCE, halfway) == {}
    assert derived.compute("u", 60, SINCE, SECOND)["perf.derived.ipc"] == 2.0


def test_the_second_of_two_sources_gets_what_the_first_one_got() -> None:
    derived = Derived()
    derived.compute("u", 0, SINCE, FIRST)
    first = derived.compute("u", 60, SINCE, SECOND)
    assert derived.compute("u", 60.01, SINCE, SECOND) == first
    less = {k: v for k, v in SECOND.items() if k != "perf.cpu_cycles"}
    assert derived.compute("u", 60.02, SINCE, less).keys() == (
        first.keys() - {"perf.derived.ipc"}
    )


def test_forgets_who_is_gone() -> None:
    derived = Derived()
    derived.compute("u", 0, SINCE, FIRST)
    derived.forget_all_but(set())
    assert derived.compute("u", 60, SINCE, SECOND) == {}


def test_every_formula_is_a_meter_and_reads_counters() -> None:
    computed = {m.key for m in METERS if m.name.startswith("perf.derived.")}
    assert {formula.meter.key for formula in FORMULAS} == computed
    for formula in FORMULAS:
        assert {formula.over, formula.under} <= PERF_KEYS


def test_the_least_that_can_be_told() -> None:
    """One cycle in half a second, of two counters that are all there are."""
    first = {"perf.cpu_cycles": 1, "perf.instructions": 1}
    second = {"perf.cpu_cycles": 2, "perf.instructions": 4}
    third = {"perf.cpu_cycles": 3, "perf.instructions": 6}
    derived = Derived()
    derived.compute("u", 0, SINCE, first)
    ipc = {"perf.derived.ipc": 3.0}
    assert derived.compute("u", 0.5, SINCE, second) == ipc
    assert derived.compute("u", 0.6, SINCE, second) == ipc
    assert derived.compute("u", 1.0, SINCE, third) == {"perf.derived.ipc": 2.0}
