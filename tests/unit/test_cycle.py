# SPDX-License-Identifier: Apache-2.0
"""A cycle reads once, whatever happens, and says trouble once."""

import logging
from concurrent import futures
from typing import Any

import pytest

from ceilometer_perf.agent import cycle
from ceilometer_perf.changes import Changes
from ceilometer_perf.counters.monitor import EMPTY
from ceilometer_perf.meters import (
    L3_CACHE,
    SCHED_DELAY,
    SCHED_DELAY_RATIO,
    VICTIM,
)
from ceilometer_perf.wiring import Parts
from tests.unit.fakes import FakeParts, report, unavailable

REPORT = report(1.0, {"uuid": {"perf.cpu_clock": 1}})


def test_many_threads_one_read() -> None:
    monitor = FakeParts(REPORT)
    cache: dict[str, Any] = {}
    with futures.ThreadPoolExecutor(19) as pool:
        readings = list(
            pool.map(
                lambda _: cycle.current(cache, monitor).report(), range(200)
            )
        )
    assert readings == [REPORT] * 200
    assert monitor.asked == 1


def test_a_new_cache_is_a_new_cycle() -> None:
    monitor = FakeParts(REPORT)
    for _ in range(3):
        cycle.current({}, monitor).report()
    assert monitor.asked == 3


@pytest.mark.parametrize("error", [unavailable(), ValueError("a bug")])
def test_failure_is_remembered_for_the_cycle(error: Exception) -> None:
    monitor = FakeParts(error)
    cache: dict[str, Any] = {}
    for _ in range(19):
        assert cycle.current(cache, monitor).report() is EMPTY
    assert monitor.asked == 1


def test_trouble_is_said_when_it_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    down, hung = unavailable("down"), unavailable("hung")
    monitor = FakeParts(down, down, hung, REPORT, REPORT, down)
    with caplog.at_level(logging.INFO, "ceilometer_perf.agent.cycle"):
        for _ in range(6):
            cycle.current({}, monitor).report()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "down"),
        ("WARNING", "hung"),
        ("INFO", "perf counters are read again"),
        ("WARNING", "down"),
    ]


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        (L3_CACHE.key, (1, 0, 0)),
        (SCHED_DELAY_RATIO.key, (0, 1, 0)),
        (VICTIM.key, (1, 1, 1)),
    ],
)
def test_the_others_are_read_once_and_only_if_asked_for(
    key: str, asked: tuple[int, int, int]
) -> None:
    monitor = FakeParts(REPORT)
    cache: dict[str, Any] = {}
    cycle.current(cache, monitor).report()
    assert (monitor.rdt_asked, monitor.waiting_asked) == (0, 0)
    for _ in range(4):
        cycle.current(cache, monitor).published(key)
    assert (
        monitor.rdt_asked,
        monitor.waiting_asked,
        monitor.neighbours_asked,
    ) == asked
    assert monitor.asked == 1


@pytest.mark.parametrize("error", [unavailable(), ValueError("a bug")])
def test_that_those_fail_costs_no_counter(error: Exception) -> None:
    monitor = FakeParts(REPORT)
    monitor.rdt = monitor.waiting = monitor.neighbours = error
    cache: dict[str, Any] = {}
    for _ in range(4):
        for key in (L3_CACHE.key, SCHED_DELAY.key, VICTIM.key):
            assert cycle.current(cache, monitor).published(key) == {}
    assert cycle.current(cache, monitor).report() is REPORT
    assert (monitor.rdt_asked, monitor.waiting_asked) == (1, 1)


@pytest.mark.parametrize("error", [unavailable(), ValueError("a bug")])
def test_who_is_not_known_is_not_taken_for_gone(error: Exception) -> None:
    """Whoever looks forgets those who are, and removes their groups."""
    monitor = FakeParts(error)
    cache: dict[str, Any] = {}
    for key in (L3_CACHE.key, SCHED_DELAY.key, VICTIM.key):
        assert cycle.current(cache, monitor).published(key) == {}
    assert (
        monitor.rdt_asked,
        monitor.waiting_asked,
        monitor.neighbours_asked,
    ) == (0, 0, 0)


def test_changes_keeps_subjects_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes = Changes(logging.getLogger("test"))
    changes.fine("a", "never in trouble")
    changes.trouble("a", "x")
    changes.trouble("b", "x")
    changes.trouble("a", "x")
    assert [r.getMessage() for r in caplog.records] == ["x", "x"]


def test_changes_forgets_who_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes = Changes(logging.getLogger("test"))
    changes.trouble("a", "x")
    changes.trouble("b", "y")
    changes.forget_all_but({"a"})
    changes.trouble("a", "x")
    changes.trouble("b", "y")
    assert [r.getMessage() for r in caplog.records] == ["x", "y", "y"]


class Looks:
    """The monitor and all that looks at its reports; what these got."""

    def __init__(self) -> None:
        self.last = EMPTY
        self.got: list[tuple[Any, ...]] = []

    def look(self, *reports: Any) -> None:
        self.got.append(reports)


@pytest.mark.parametrize(("last", "newest"), [(2.0, 2.0), (0.5, 1.0)])
def test_a_cycle_that_was_held_up_looks_at_the_host_as_it_is(
    last: float, newest: float
) -> None:
    """Another polling source's has seen instances that it doesn't know."""
    looks: Any = Looks()
    nothing: Any = None
    parts = Parts(nothing, nothing, nothing, nothing, *[looks] * 4)
    looks.last = report(last, {})
    parts.look_at_rdt(REPORT)
    parts.look_at_waiting(REPORT)
    parts.look_at_neighbours(REPORT, nothing, nothing)
    assert [each[0].taken_at for each in looks.got] == [newest] * 3
