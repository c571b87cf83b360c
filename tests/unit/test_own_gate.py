# SPDX-License-Identifier: Apache-2.0
"""The gate of own counters: no growth passes that was none of the guest's."""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.own_gate import OwnGate
from ceilometer_perf.counters.trust import Judged, Policy
from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.host.counting import Count
from ceilometer_perf.host.processes import Process

SECOND = 1_000_000_000
KEYS = ("perf.cpu_cycles", "perf.task_clock")


def process(cpu: float) -> Process:
    return Process(pid=7, started=100, threads=4, cpu_ns=int(cpu * SECOND))


def count(
    enabled: float, running: Sequence[float] | None = None, *, opened: int = 5
) -> Count:
    """In seconds; each event counts a thousandth of what it runs."""
    all_of_it = int(enabled * SECOND)
    on = [int(e * SECOND) for e in running or (enabled, enabled)]
    missed = [all_of_it - each for each in on]
    return Count(
        0, opened * SECOND, all_of_it, [each // 1000 for each in on],
        missed if any(missed) else [],
    )  # fmt: skip


def judged(
    gate: OwnGate, seen: Count, cpu: float, *, stolen: float = 0.0,
    late: float = 0.0,
) -> Judged:  # fmt: skip
    taken = int(stolen * SECOND)
    return gate.judge("web", seen, process(cpu), taken, late)


def given_verdicts(found: Judged) -> list[Verdict]:
    return [found.judgements[key].verdict for key in KEYS]


@pytest.fixture
def gate() -> OwnGate:
    return OwnGate(Policy(), KEYS)


def test_the_first_reading_is_the_base(gate: OwnGate) -> None:
    assert given_verdicts(judged(gate, count(0), 100)) == [Verdict.NEW] * 2
    found = judged(gate, count(5), 105)
    assert given_verdicts(found) == [Verdict.OK] * 2
    assert found.coverage == pytest.approx(1)
    assert found.share == 1
    assert found.flags() == []


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (4.49, Verdict.MISCOUNTED),
        (4.5, Verdict.OK),
        (5.5, Verdict.OK),
        (5.51, Verdict.MISCOUNTED),
    ],
)
def test_what_it_saw_is_held_against_the_cpu_time(
    gate: OwnGate, seen: float, verdict: Verdict
) -> None:
    judged(gate, count(0), 100)
    found = judged(gate, count(seen), 105)
    assert given_verdicts(found) == [verdict] * 2
    assert gate.is_wrong("web") == (verdict is Verdict.MISCOUNTED)
    assert found.coverage == pytest.approx(seen / 5)


def test_once_wrong_it_stays_so_until_it_is_opened_again(
    gate: OwnGate,
) -> None:
    judged(gate, count(0), 100)
    judged(gate, count(1), 105)
    assert (
        given_verdicts(judged(gate, count(1), 105)) == [Verdict.MISCOUNTED] * 2
    )
    again = judged(gate, count(0, opened=6), 105)
    assert given_verdicts(again) == [Verdict.NEW] * 2
    assert not gate.is_wrong("web")
    assert (
        given_verdicts(judged(gate, count(5, opened=6), 110))
        == [Verdict.OK] * 2
    )


def test_what_was_stolen_is_in_the_clock(gate: OwnGate) -> None:
    """By interrupts, or a hypervisor: the CPU time has not got it."""
    judged(gate, count(0), 100, stolen=40)
    found = judged(gate, count(6), 105, stolen=41)
    assert (found.coverage, given_verdicts(found)) == (1, [Verdict.OK] * 2)
    found = judged(gate, count(12), 110, stolen=41.5)
    assert found.coverage == pytest.approx(1 + 0.5 / 10)
    found = judged(gate, count(22), 115, stolen=42)
    assert found.coverage == pytest.approx(1 + 5 / 10)
    assert given_verdicts(found) == [Verdict.MISCOUNTED] * 2


@pytest.mark.parametrize("seen", [0.0, 39.0])
def test_theft_that_falls_accuses_nobody(gate: OwnGate, seen: float) -> None:
    """It can't be read this time, or the host has moved."""
    judged(gate, count(0), 100, stolen=40)
    found = judged(gate, count(5), 105, stolen=seen)
    assert (found.coverage, given_verdicts(found)) == (1, [Verdict.OK] * 2)


def test_theft_excuses_nothing_that_is_missing(gate: OwnGate) -> None:
    judged(gate, count(0), 100)
    found = judged(gate, count(4), 105, stolen=9)
    assert found.coverage == pytest.approx(0.8)
    assert given_verdicts(found) == [Verdict.MISCOUNTED] * 2


def test_since_is_when_they_were_opened(gate: OwnGate) -> None:
    first = judged(gate, count(0), 100)
    assert judged(gate, count(5), 105).since == first.since
    assert judged(gate, count(0, opened=6), 105).since > first.since


def test_little_use_is_no_evidence() -> None:
    for in_doubt, verdict in (False, Verdict.OK), (True, Verdict.IN_DOUBT):
        gate = OwnGate(Policy(withhold_in_doubt=in_doubt), KEYS)
        judged(gate, count(0), 100)
        found = judged(gate, count(0.4), 100.9)
        assert found.coverage is None
        assert given_verdicts(found) == [verdict] * 2


def test_a_share_is_published_and_said(gate: OwnGate) -> None:
    judged(gate, count(0), 100)
    found = judged(gate, count(10, [4, 10]), 110)
    assert given_verdicts(found) == [Verdict.OK] * 2
    assert found.share == pytest.approx(0.4)
    assert found.flags() == ["multiplexed"]


def test_too_small_a_share_is_withheld(gate: OwnGate) -> None:
    judged(gate, count(0), 100)
    found = judged(gate, count(10, [1.9, 10]), 110)
    assert given_verdicts(found) == [Verdict.MULTIPLEXED, Verdict.OK]
    assert found.share == 1
    # It counts again, but for less than a fifth of all since it was seen.
    found = judged(gate, count(11, [2.1, 11]), 111)
    assert given_verdicts(found) == [Verdict.MULTIPLEXED, Verdict.OK]
    found = judged(gate, count(12, [3.1, 12]), 112)
    assert given_verdicts(found) == [Verdict.OK, Verdict.OK]
    assert found.share == pytest.approx(3.1 / 12)
    # What was estimated then is in the total for good.
    found = judged(gate, count(22, [13.1, 22]), 122)
    assert found.share == pytest.approx(13.1 / 22)


def test_a_reading_that_came_late_changes_no_mind(gate: OwnGate) -> None:
    """Its CPU time is not of the same moment."""
    judged(gate, count(0), 100)
    for seen, late in ((1, 0.0), (6, 2.0)):
        found = judged(gate, count(seen), 105, late=late)
        assert given_verdicts(found) == [Verdict.MISCOUNTED] * 2
        assert found.coverage == pytest.approx(0.2)


def test_a_share_is_that_since_it_was_published_last(gate: OwnGate) -> None:
    judged(gate, count(0), 100)
    judged(gate, count(10, [5, 10]), 110)
    found = judged(gate, count(20, [5.5, 20]), 120)
    assert given_verdicts(found) == [Verdict.MULTIPLEXED, Verdict.OK]


def test_what_was_missed_before_the_first_reading(gate: OwnGate) -> None:
    """It is in the total, whether the guest runs on or not."""
    for ran in (0, 1.9):
        seen = count(10, [ran, 10], opened=int(ran) + 5)
        judged(gate, seen, 110)
        found = judged(gate, seen, 110)
        assert given_verdicts(found) == [Verdict.MULTIPLEXED, Verdict.OK]
        assert found.share == 1


def test_the_smallest_share_that_is_published(gate: OwnGate) -> None:
    judged(gate, count(0), 100)
    found = judged(gate, count(10, [2, 10]), 110)
    assert given_verdicts(found) == [Verdict.OK] * 2
    assert found.share == 0.2
    judged(gate, count(0, opened=6), 100)
    found = judged(gate, count(10, [2 - 2e-9, 10], opened=6), 110)
    assert given_verdicts(found) == [Verdict.MULTIPLEXED, Verdict.OK]


def test_where_nothing_ran_nothing_was_missed(gate: OwnGate) -> None:
    """Neither an event that the host lacks, nor a guest that is paused."""
    judged(gate, count(0), 100)
    seen = count(10, [4, 10])
    lacking = seen._replace(missed=[0, SECOND])
    found = judged(gate, lacking, 110)
    assert given_verdicts(found) == [Verdict.OK] * 2
    assert found.share == pytest.approx(0.9)
    again = judged(gate, lacking, 110)
    assert given_verdicts(again) == [Verdict.OK] * 2
    assert again.share == pytest.approx(0.9)


def test_nothing_is_published_with_a_share(gate: OwnGate) -> None:
    judged(gate, count(0), 100)
    found = judged(gate, count(10, [1, 1]), 110)
    assert given_verdicts(found) == [Verdict.MULTIPLEXED] * 2
    assert found.share == 1
    assert "10.0%" in str(found.judgements[KEYS[0]])


def test_who_is_gone_is_forgotten(gate: OwnGate) -> None:
    judged(gate, count(0), 100)
    gate.forget_all_but({"web"})
    assert given_verdicts(judged(gate, count(5), 105)) == [Verdict.OK] * 2
    gate.forget_all_but(())
    assert given_verdicts(judged(gate, count(5), 105)) == [Verdict.NEW] * 2


@dataclasses.dataclass
class World:
    """A guest, and the helper that counts it with some fault or none.

    ``seen`` is the part of the CPU time that its counters see: less where a
    thread was missed, more where one is counted twice.
    """

    cpu: float = 50.0
    opened: int = 1
    enabled: float = 0.0
    running: float = 0.0
    seen: float = 1.0
    share: float = 1.0
    gate: OwnGate = dataclasses.field(
        default_factory=lambda: OwnGate(Policy(), KEYS)
    )

    def open(self, seen: float) -> None:
        self.opened += 1
        self.enabled = self.running = 0.0
        self.seen = seen

    def use(self, seconds: float) -> None:
        self.cpu += seconds
        self.enabled += seconds * self.seen
        self.running += seconds * self.seen * self.share

    def look(self) -> Judged:
        found = count(
            self.enabled, [self.running, self.enabled], opened=self.opened
        )
        judged = self.gate.judge("web", found, process(self.cpu), 0, 0.0)
        if self.gate.is_wrong("web"):
            self.open(1.0)
        return judged

    def fault(self, seen: float) -> None:
        """Without anybody's opening them again."""
        self.seen = seen

    def turns(self, share: float) -> None:
        self.share = share

    def restart(self, seen: float) -> None:
        """The agent, and its helper with it."""
        self.gate = OwnGate(Policy(), KEYS)
        self.open(seen)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.floats(0.01, 30)),
        st.tuples(
            st.sampled_from(["open", "fault", "restart"]),
            st.sampled_from([0.3, 0.85, 1.0, 1.2, 2.0]),
        ),
        st.tuples(st.just("turns"), st.sampled_from([0.0, 0.1, 0.5, 1.0])),
    ),
    max_size=30,
)


@given(STEPS)
def test_no_untrue_growth_passes(steps: list[tuple[str, float]]) -> None:
    """Beyond two floors of CPU time, in which nothing can be measured."""
    world = World()
    last: tuple[float, float] | None = None
    for what, amount in steps:
        getattr(world, what)(amount)
        enabled, cpu = world.enabled, world.cpu
        found = world.look()
        cycles, clock = (found.judgements[key] for key in KEYS)
        if cycles is verdicts.OK:
            assert found.share >= Policy().min_running
        if clock is verdicts.OK and last is not None:
            used = cpu - last[1]
            assert abs(enabled - last[0] - used) <= 0.1 * used + 2
        if clock in (verdicts.NEW, verdicts.OK):
            last = (enabled, cpu)
