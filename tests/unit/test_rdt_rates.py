# SPDX-License-Identifier: Apache-2.0
"""Levels are levels, and bandwidth is growth that means something."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from ceilometer_perf.rdt.rates import MOST_BANDWIDTH, Figures, Rates
from ceilometer_perf.rdt.usage import (
    CORE_ENERGY,
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Usage,
)

L3, UTIL = "cpu_l3_cache", "cpu_l3_cache.util"
BANDWIDTH = "memory.bandwidth.total"


def usage(
    held: int | None = None,
    *total: int | None,
    identity: int = 1,
    settling: float = 0.0,
) -> Usage:
    return Usage(
        "libvirt",
        identity,
        {OCCUPANCY: {0: held}, TOTAL: dict(enumerate(total))},
        settling,
    )


class Rated:
    """The values alone, of one host."""

    def __init__(self, l3: Mapping[int, int] | None = None) -> None:
        self._rates = Rates()
        self._l3 = l3 or {}

    def compute(self, uuid: str, at: float, usage: Usage) -> dict[str, float]:
        found = self.figures(uuid, at, usage).values
        return {key: figure.value for key, figure in found.items()}

    def figures(self, uuid: str, at: float, usage: Usage) -> Figures:
        return self._rates.compute(uuid, at, usage, self._l3)


def test_levels_and_growth() -> None:
    rates = Rated(l3={0: 600, 1: 400})
    rates.compute("web", 0, usage(300, 100, 1000))
    assert rates.compute("web", 10, usage(250, 150, 1050)) == {
        L3: 250,
        UTIL: 25.0,
        BANDWIDTH: 10.0,
    }


def test_first_level_of_a_counter_that_needs_no_time() -> None:
    rates = Rated(l3={0: 600, 1: 400})
    first = rates.compute("web", 0, usage(300, 100))
    assert first == {L3: 300, UTIL: 30.0}


def test_new_group_says_nothing_until_it_is_settled() -> None:
    rates = Rated()
    assert rates.compute("web", 0, usage(300, 0, settling=1)) == {}
    assert L3 not in rates.compute("web", 0.7, usage(300, 7, settling=1))
    assert rates.compute("web", 1.4, usage(300, 14, settling=1))[L3] == 300


def test_group_that_was_made_again_begins_anew() -> None:
    rates = Rated()
    rates.compute("web", 0, usage(1, 100))
    # More than before, and still not the growth of one counter.
    begun = rates.compute("web", 60, usage(1, 900, identity=2))
    assert begun == {L3: 1}
    after = rates.compute("web", 120, usage(1, 960, identity=2))
    assert after[BANDWIDTH] == 1.0


@pytest.mark.parametrize(
    "after", [(5, 200), (200, None), (200,), (200, 200, 1)]
)
def test_no_growth_where_a_bank_fell_or_is_another(
    after: tuple[int | None, ...],
) -> None:
    """The sum may have grown all the same."""
    rates = Rated()
    rates.compute("web", 0, usage(1, 100, 100))
    assert BANDWIDTH not in rates.compute("web", 60, usage(1, *after))
    rates.compute("web", 120, usage(1, 1000, 1000))
    again = rates.compute("web", 180, usage(1, 1030, 1030))
    assert again[BANDWIDTH] == 1.0


def test_more_than_the_cache_is_bounded() -> None:
    rates = Rated(l3={0: 600, 1: 400})
    found = rates.compute("web", 0, usage(1100))
    assert found == {L3: 1100, UTIL: 100.0}


def test_no_number_is_no_value() -> None:
    rates = Rated(l3={0: 600, 1: 400})
    rates.compute("web", 0, usage(None, 1))
    assert rates.compute("web", 60, usage(None, None)) == {}


def test_machine_without_local_bandwidth() -> None:
    rates = Rated()
    rates.compute("web", 0, usage(1, 1))
    assert "memory.bandwidth.local" not in rates.compute(
        "web", 60, usage(1, 2)
    )
    assert LOCAL not in usage(1, 1).banks


def test_readings_too_close_are_one() -> None:
    rates = Rated()
    rates.compute("web", 0, usage(1, 0))
    assert BANDWIDTH not in rates.compute("web", 0.1, usage(1, 9))
    assert rates.compute("web", 2, usage(1, 20))[BANDWIDTH] == 10.0


def test_the_second_of_two_close_readings_has_the_rates_of_the_first() -> None:
    """Two polling sources, of which neither goes without."""
    rates = Rated()
    rates.compute("web", 0, usage(1, 0))
    first = rates.compute("web", 60, usage(1, 120))
    assert first == {L3: 1, BANDWIDTH: 2.0}
    assert rates.compute("web", 60.01, usage(3, 120)) == {L3: 3, BANDWIDTH: 2}
    # But not of what has no number just now.
    assert rates.compute("web", 60.02, usage(3, None)) == {L3: 3}
    assert rates.compute("web", 120, usage(1, 300))[BANDWIDTH] == 3.0


def test_forgets_who_is_gone() -> None:
    rates = Rates()
    rates.compute("web", 0, usage(1, 0), {})
    rates.forget_all_but(set())
    assert rates._earlier == {}


def test_each_cache_has_its_part() -> None:
    rates = Rated(l3={4: 600, 9: 400})
    first = Usage("resctrl", 1, {OCCUPANCY: {4: 300, 9: 0}, TOTAL: {4: 5}})
    then = Usage("resctrl", 1, {OCCUPANCY: {4: 150, 9: 800}, TOTAL: {4: 25}})
    began = rates.figures("web", 0, first)
    found = rates.figures("web", 10, then)
    assert found.since == began.since
    assert {key: figure.banks for key, figure in found.values.items()} == {
        L3: {4: 150, 9: 800},
        UTIL: {4: 25.0, 9: 100.0},
        BANDWIDTH: {4: 2.0},
    }
    assert found.values[UTIL].value == 95.0


def test_since_is_when_the_counters_were_first_read() -> None:
    rates = Rated()
    before = datetime.now(UTC)
    first = rates.figures("web", 0, usage(1, 100)).since
    assert before <= first <= datetime.now(UTC)
    for at in 60, 120:
        assert rates.figures("web", at, usage(1, 100 + at)).since == first
    again = rates.figures("web", 180, usage(1, 0, identity=2)).since
    assert first <= again <= datetime.now(UTC)
    assert rates.figures("web", 240, usage(1, 9, identity=2)).since == again


@pytest.mark.parametrize(("after", "settled"), [(0.9, False), (1.0, True)])
def test_a_second_is_enough_to_settle(after: float, settled: bool) -> None:
    rates = Rated()
    new = usage(300, settling=1)
    rates.compute("web", 100, new)
    assert (L3 in rates.compute("web", 100 + after, new)) is settled


def test_half_a_second_is_enough_for_a_rate() -> None:
    rates = Rated()
    rates.compute("web", 100, usage(1, 100))
    assert rates.compute("web", 100.5, usage(1, 101))[BANDWIDTH] == 2.0


def test_a_bank_that_came_without_a_number_is_no_growth() -> None:
    rates = Rated()
    rates.compute("web", 0, usage(1, 100, None))
    assert BANDWIDTH not in rates.compute("web", 60, usage(1, 160))
    rates.compute("db", 0, usage(1, 100))
    assert BANDWIDTH not in rates.compute("db", 60, usage(1, 160, None))


def test_a_bank_that_did_not_grow_is_a_number_too() -> None:
    rates = Rated()
    rates.compute("web", 0, usage(1, 100, 7))
    grown = rates.figures("web", 10, usage(1, 150, 7)).values[BANDWIDTH]
    assert (grown.value, grown.banks) == (5.0, {0: 5.0, 1: 0.0})


LEAP = 1 << 50
"""As kernels have it of an RMID that was in use before."""


@pytest.mark.parametrize("seconds", [1, 60, 600])
def test_no_rate_that_no_memory_has(seconds: int) -> None:
    rates = Rated()
    rates.compute("web", 0, usage(5, 620))
    leapt = rates.figures("web", seconds, usage(5, LEAP + 620))
    assert set(leapt.values) == {L3}
    assert "more than any memory does" in leapt.beyond[BANDWIDTH]
    # To a polling source that reads at nearly the same time, too.
    close = rates.figures("web", seconds + 0.1, usage(5, LEAP + 620))
    assert close.beyond == leapt.beyond
    after = rates.figures("web", 2 * seconds, usage(5, LEAP + 620 + seconds))
    assert after.values[BANDWIDTH].value == 1
    assert after.beyond == {}


def test_the_most_that_memory_does() -> None:
    """Through each cache: a host may have many."""
    rates = Rated()
    rates.compute("web", 0, usage(5, 0, 0))
    most = int(MOST_BANDWIDTH)
    found = rates.compute("web", 1, usage(5, most, most))
    assert found[BANDWIDTH] == 2 * most
    assert BANDWIDTH not in rates.compute(
        "web", 2, usage(5, 2 * most, 2 * most + 1)
    )


@pytest.mark.parametrize(("held", "known"), [(1200, True), (1201, False)])
def test_no_cache_holds_twice_its_size(held: int, known: bool) -> None:
    """It is an estimate, and may be a little more than there is."""
    found = Rated(l3={0: 600}).figures("web", 0, usage(held))
    assert ({L3, UTIL} <= found.values.keys()) is known
    assert ({L3, UTIL} == found.beyond.keys()) is not known
    assert Rated().compute("web", 0, usage(held)) == {L3: held}


ENERGY, POWER = "perf.energy", "perf.power"


def energy(*joules: float | None, identity: int = 1) -> Usage:
    banks = {CORE_ENERGY: dict(enumerate(joules))}
    return Usage("resctrl", identity, banks, settling=1.0)


def test_energy_is_what_was_used_since_the_first_reading() -> None:
    """What an earlier group with this RMID had used is not in it."""
    rates = Rated()
    assert rates.compute("web", 0, energy(1000.25, 500.0)) == {ENERGY: 0.0}
    assert rates.compute("web", 10, energy(1030.25, 510.0)) == {
        ENERGY: 40.0,
        POWER: 4.0,
    }
    assert rates.compute("web", 20, energy(1030.25, 510.0)) == {
        ENERGY: 40.0,
        POWER: 0.0,
    }


@pytest.mark.parametrize(
    "after",
    [
        energy(50.0, 520.0),  # one package was reset, though the sum grew
        energy(1040.0, 520.0, identity=2),  # another group
        energy(1040.0),  # of one package only
    ],
)
def test_energy_that_starts_again(after: Usage) -> None:
    rates = Rated()
    first = rates.figures("web", 0, energy(1.0, 500.0)).since
    rates.compute("web", 10, energy(100.0, 510.0))
    found = rates.figures("web", 20, after)
    assert {k: f.value for k, f in found.values.items()} == {ENERGY: 0.0}
    assert found.since > first


def test_energy_that_is_mute_at_first() -> None:
    rates = Rated()
    assert rates.compute("web", 0, energy(None, 500.0)) == {}
    assert rates.compute("web", 10, energy(7.0, 500.0)) == {ENERGY: 0.0}
    assert rates.compute("web", 20, energy(17.0, 500.0)) == {
        ENERGY: 10.0,
        POWER: 1.0,
    }


def test_energy_that_was_reset_while_mute() -> None:
    rates = Rated()
    rates.compute("web", 0, energy(100.0))
    rates.compute("web", 10, energy(None))
    assert rates.compute("web", 20, energy(3.0)) == {ENERGY: 0.0}
    assert rates.compute("web", 30, energy(5.0))[ENERGY] == 2.0


def test_energy_of_which_a_package_is_mute() -> None:
    """It goes on from where it was."""
    rates = Rated()
    rates.compute("web", 0, energy(1.0, 500.0))
    assert rates.compute("web", 10, energy(None, 510.0)) == {}
    assert rates.compute("web", 20, energy(11.0, 520.0)) == {ENERGY: 30.0}
    assert rates.compute("web", 30, energy(11.0, 520.0)) == {
        ENERGY: 30.0,
        POWER: 0.0,
    }
