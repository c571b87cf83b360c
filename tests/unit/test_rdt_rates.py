# SPDX-License-Identifier: Apache-2.0
"""Levels are levels, and bandwidth is growth that means something."""

import pytest

from ceilometer_perf.sources.rdt.rates import Rates
from ceilometer_perf.sources.rdt.usage import (
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Origin,
    Usage,
)

L3, UTIL = "cpu_l3_cache", "cpu_l3_cache.util"
BANDWIDTH = "memory.bandwidth.total"


def usage(
    held: int | None = None,
    *total: int | None,
    source: Origin = "resctrl",
    identity: int = 1,
) -> Usage:
    return Usage(
        source, identity, {OCCUPANCY: {0: held}, TOTAL: dict(enumerate(total))}
    )


def test_levels_and_growth() -> None:
    rates = Rates(l3_bytes=1000)
    assert rates.compute("web", 0, usage(300, 100, 1000)) == {}
    assert rates.compute("web", 10, usage(250, 150, 1050)) == {
        L3: 250,
        UTIL: 25.0,
        BANDWIDTH: 10.0,
    }


@pytest.mark.parametrize("source", ["perf", "libvirt"])
def test_first_level_of_a_counter_that_is_not_new(source: Origin) -> None:
    rates = Rates(l3_bytes=1000)
    first = rates.compute("web", 0, usage(300, 100, source=source))
    assert first == {L3: 300, UTIL: 30.0}


def test_new_group_says_nothing_until_it_is_settled() -> None:
    rates = Rates(0)
    assert rates.compute("web", 0, usage(300, 0)) == {}
    assert L3 not in rates.compute("web", 0.7, usage(300, 7))
    assert rates.compute("web", 1.4, usage(300, 14))[L3] == 300


def test_group_that_was_made_again_begins_anew() -> None:
    rates = Rates(0)
    rates.compute("web", 0, usage(1, 100))
    # More than before, and still not the growth of one counter.
    assert rates.compute("web", 60, usage(1, 900, identity=2)) == {}
    after = rates.compute("web", 120, usage(1, 960, identity=2))
    assert after[BANDWIDTH] == 1.0


@pytest.mark.parametrize(
    "after", [(5, 200), (200, None), (200,), (200, 200, 1)]
)
def test_no_growth_where_a_bank_fell_or_is_another(
    after: tuple[int | None, ...],
) -> None:
    """The sum may have grown all the same."""
    rates = Rates(0)
    rates.compute("web", 0, usage(1, 100, 100))
    assert BANDWIDTH not in rates.compute("web", 60, usage(1, *after))
    rates.compute("web", 120, usage(1, 1000, 1000))
    again = rates.compute("web", 180, usage(1, 1030, 1030))
    assert again[BANDWIDTH] == 1.0


def test_more_than_the_cache_is_bounded() -> None:
    rates = Rates(l3_bytes=1000)
    found = rates.compute("web", 0, usage(1100, source="perf"))
    assert found == {L3: 1100, UTIL: 100.0}


def test_no_number_is_no_value() -> None:
    rates = Rates(l3_bytes=1000)
    rates.compute("web", 0, usage(None, 1))
    assert rates.compute("web", 60, usage(None, None)) == {}


def test_machine_without_local_bandwidth() -> None:
    rates = Rates(0)
    rates.compute("web", 0, usage(1, 1))
    assert "memory.bandwidth.local" not in rates.compute(
        "web", 60, usage(1, 2)
    )
    assert LOCAL not in usage(1, 1).banks


def test_readings_too_close_are_one() -> None:
    rates = Rates(0)
    rates.compute("web", 0, usage(1, 0))
    assert BANDWIDTH not in rates.compute("web", 0.1, usage(1, 9))
    assert rates.compute("web", 2, usage(1, 20))[BANDWIDTH] == 10.0


def test_forgets_who_is_gone() -> None:
    rates = Rates(0)
    rates.compute("web", 0, usage(1, 0))
    rates.forget_all_but(set())
    assert rates._earlier == {}
