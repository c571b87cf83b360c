# SPDX-License-Identifier: Apache-2.0
"""The gate: each way in which counters go wrong, and a world of them."""

import dataclasses
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.trust import Evidence, Gate, Judged, Policy
from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.host.processes import Process
from tests.examples import times

SECOND = 1_000_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
UUID = "6695eb01-f6a4-4304-b9aa-97f2502e193f"
CYCLES, CLOCK = "perf.cpu_cycles", "perf.task_clock"


@dataclass
class World:
    """A guest, its QEMU process and libvirt's counters, as they behave.

    The counters see the vCPUs from a boot with the events in the XML until
    something opens them anew; then only QEMU's main thread, which uses one
    hundredth of what the vCPUs do.
    """

    events: tuple[str, ...] = (CYCLES, CLOCK)
    time: datetime = START
    ticks: int = 1000
    pid: int = 1
    boot: int = 0
    booted_at: datetime = START
    started: int = 0
    driver_started: int = 100
    cpu: float = 0.0  # seconds
    counters: dict[str, float] = field(default_factory=dict)  # seconds
    sees_vcpus: dict[str, bool] = field(default_factory=dict)
    truth: float = 0.0  # seconds of CPU time since the guest booted

    def __post_init__(self) -> None:
        self.reboot()

    def reboot(self) -> None:
        self.boot += 1
        self.pid += 1
        self.started = self.ticks
        self.booted_at = self.time
        self.cpu = self.truth = 0.0
        self.counters = dict.fromkeys(self.events, 0.0)
        self.sees_vcpus = dict.fromkeys(self.events, True)

    def run(self, seconds: float, load: float = 1.0) -> None:
        used = seconds * load
        self.time += timedelta(seconds=seconds)
        self.ticks += int(seconds * 100)
        self.cpu += used
        self.truth += used
        for key in self.counters:
            self.counters[key] += used * (1 if self.sees_vcpus[key] else 0.01)

    def restart_libvirtd(self) -> None:
        self.run(0.02, 0)
        self.driver_started = self.ticks
        self.enable_live()

    def enable_live(self) -> None:
        for key in self.counters:
            self.open_anew(key)

    def open_anew(self, key: str) -> None:
        self.counters[key] = 0.0
        self.sees_vcpus[key] = False

    def evidence(self, **other: Any) -> Evidence:
        process = Process(
            self.pid, self.started, threads=4,
            cpu_ns=int(self.cpu * 100) * SECOND // 100,
        )  # fmt: skip
        driver = Process(0, self.driver_started, 17, 0)
        return Evidence(
            **{
                "boot": self.boot,
                "process": process,
                "driver": driver,
                "booted_at": self.booted_at,
                "now": self.time,
                "uptime": self.ticks / 100,
                "late": 0.0,
                **other,
            }
        )

    def values(self) -> dict[str, int]:
        return {k: int(v * SECOND) for k, v in self.counters.items()}

    def judge(self, gate: Gate, **other: Any) -> Judged:
        return gate.judge(UUID, self.values(), self.evidence(**other))


def verdict_of(judged: Judged) -> set[Verdict]:
    return {judgement.verdict for judgement in judged.judgements.values()}


def test_right_from_boot_on() -> None:
    world, gate = World(), Gate(Policy())
    for _ in range(5):
        world.run(60)
        judged = world.judge(gate)
        assert verdict_of(judged) == {Verdict.OK}
        assert judged.coverage == pytest.approx(1, abs=0.01)
        assert judged.since == START


def test_a_guest_that_did_nothing_is_not_suspected() -> None:
    world, gate = World(), Gate(Policy())
    for _ in range(5):
        world.run(60, load=0.001)
        judged = world.judge(gate)
        assert verdict_of(judged) == {Verdict.OK}
        assert judged.coverage is None


def test_libvirtd_restarted() -> None:
    world, gate = World(), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.restart_libvirtd()
    for _ in range(3):
        world.run(60)
        judged = world.judge(gate)
        assert set(judged.judgements.values()) == {verdicts.RESTARTED}
        assert judged.trusted(world.values()) == {}
        assert judged.since == START
    world.reboot()
    world.run(60)
    judged = world.judge(gate)
    assert verdict_of(judged) == {Verdict.OK}
    assert judged.since == START + timedelta(seconds=240.02)


def test_agent_started_after_libvirtd_was_restarted() -> None:
    world = World()
    world.run(600)
    world.restart_libvirtd()
    world.run(0.1)
    judged = world.judge(Gate(Policy()))
    assert set(judged.judgements.values()) == {verdicts.RESTARTED}


def test_agent_started_after_the_event_was_enabled_live() -> None:
    world = World()
    world.run(600)
    world.enable_live()
    world.run(60)
    judged = world.judge(Gate(Policy()))
    assert verdict_of(judged) == {Verdict.DETACHED}
    assert "saw 0.1%" in judged.judgements[CYCLES].reason
    assert "hard reboot" in judged.judgements[CYCLES].remedy


def test_event_enabled_live_is_detached_alone() -> None:
    world, gate = World(events=(CLOCK,)), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.open_anew(CYCLES)
    for _ in range(3):
        world.run(60)
        judged = world.judge(gate)
        assert judged.judgements == {
            CLOCK: verdicts.OK,
            CYCLES: verdicts.ENABLED_LIVE,
        }


def test_a_clock_enabled_live_is_no_witness_against_others() -> None:
    other = "perf.cpu_clock"
    world, gate = World(events=(CYCLES, other)), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.open_anew(CLOCK)
    for _ in range(3):
        world.run(60)
        judged = world.judge(gate)
        assert judged.judgements == {
            CYCLES: verdicts.OK,
            other: verdicts.OK,
            CLOCK: verdicts.ENABLED_LIVE,
        }
        assert judged.coverage == pytest.approx(1, abs=0.01)


def test_the_only_clock_enabled_live_is_no_witness_either() -> None:
    world, gate = World(events=(CYCLES,)), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.open_anew(CLOCK)
    for _ in range(3):
        world.run(60)
        judged = world.judge(gate)
        assert judged.judgements[CYCLES] is verdicts.OK
        assert judged.judgements[CLOCK] is verdicts.ENABLED_LIVE


@pytest.mark.parametrize("late", [CLOCK, "perf.cpu_clock"])
def test_to_a_new_agent_one_clock_says_that_others_may_be_wrong_too(
    late: str,
) -> None:
    world = World(events=(CYCLES, CLOCK, "perf.cpu_clock"))
    world.run(60)
    world.open_anew(late)
    world.run(60)
    judged = world.judge(Gate(Policy()))
    assert verdict_of(judged) == {Verdict.OK, Verdict.DETACHED}
    (right,) = judged.trusted(world.values())
    assert {right, late} == {CLOCK, "perf.cpu_clock"}


def test_an_event_disabled_and_enabled_again_is_detached() -> None:
    """Even where it has counted more by then than it had before."""
    world, gate = World(), Gate(Policy())
    world.run(1)
    world.judge(gate)
    del world.counters[CYCLES]
    world.run(1)
    world.judge(gate)
    world.open_anew(CYCLES)
    world.run(600)
    judged = world.judge(gate)
    assert judged.judgements == {
        CLOCK: verdicts.OK,
        CYCLES: verdicts.ENABLED_LIVE,
    }


def test_without_a_clock_the_younger_libvirtd_gives_it_away() -> None:
    world = World(events=(CYCLES,))
    world.run(60)
    assert verdict_of(world.judge(Gate(Policy()))) == {Verdict.OK}
    world.restart_libvirtd()
    judged = world.judge(Gate(Policy()))
    assert set(judged.judgements.values()) == {verdicts.RESTARTED}


@pytest.mark.parametrize("driver", [None, Process(0, 0, 17, 0)])
def test_a_counter_that_fell_stays_detached(driver: Process | None) -> None:
    world, gate = World(events=(CYCLES,)), Gate(Policy())
    world.run(60)
    world.judge(gate, driver=driver)
    world.open_anew(CYCLES)
    for _ in range(3):
        world.run(600)
        judged = world.judge(gate, driver=driver)
        assert set(judged.judgements.values()) == {verdicts.FELL}


def test_detached_never_heals_in_the_same_process() -> None:
    world, gate = World(), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.restart_libvirtd()
    world.run(60)
    world.judge(gate)
    world.sees_vcpus = dict.fromkeys(world.events, True)
    for _ in range(10):
        world.run(600)
        judged = world.judge(gate)
    assert judged.coverage == pytest.approx(1, abs=0.01)
    assert verdict_of(judged) == {Verdict.DETACHED}


def test_without_processes_a_reboot_is_told_by_libvirt_s_id() -> None:
    world, gate = World(), Gate(Policy())
    unseen = {"process": None, "driver": None, "booted_at": None}
    world.run(60)
    first = world.judge(gate, **unseen)
    assert first.since == world.time
    world.reboot()
    world.run(10)
    second = world.judge(gate, **unseen)
    assert verdict_of(second) == {Verdict.OK}
    assert second.since == world.time > first.since


def test_listed_before_its_events_are_open() -> None:
    """libvirt lists a guest while it is still being started."""
    world, gate = World(), Gate(Policy())
    counters, world.counters = world.counters, {}
    world.run(2, 0)
    world.judge(gate)
    world.counters = counters
    world.run(60)
    assert verdict_of(world.judge(gate)) == {Verdict.OK}


def test_events_of_a_guest_that_ran_long_without_any() -> None:
    world, gate = World(events=()), Gate(Policy())
    world.run(600)
    world.judge(gate)
    world.open_anew(CYCLES)
    world.run(60)
    judged = world.judge(gate)
    assert set(judged.judgements.values()) == {verdicts.ENABLED_LIVE}


def test_late_reading_of_the_cpu_time_detaches_nobody() -> None:
    world, gate = World(), Gate(Policy())
    world.run(2)
    values = world.values()
    world.run(9)  # libvirt took nine seconds to answer
    judged = gate.judge(UUID, values, world.evidence(late=9.0))
    assert verdict_of(judged) == {Verdict.OK}
    assert judged.coverage is None


def test_a_late_base_makes_no_coverage_beyond_what_can_be() -> None:
    """What was read late once is not what growth is measured from exactly."""
    world, gate = World(), Gate(Policy())
    for seconds, late in ((100, 1.2), (100, 1.2), (1, 0), (1, 0), (60, 0)):
        world.run(seconds)
        values = world.values()
        world.run(late)
        judged = gate.judge(UUID, values, world.evidence(late=late))
        assert verdict_of(judged) == {Verdict.OK}
        if judged.coverage is not None:
            assert judged.coverage == pytest.approx(1, abs=0.06)


def test_a_low_floor_detaches_nobody_for_the_kernel_s_ticks() -> None:
    world, gate = World(), Gate(Policy(coverage_floor=0.1))
    chance = random.Random(1)
    for _ in range(400):
        world.run(0.0537)
        evidence = world.evidence()
        process = evidence.process
        assert process is not None
        # Both parts of CPU time are cut off to ticks, on their own.
        less = chance.randrange(2) * SECOND // 100
        cut = dataclasses.replace(process, cpu_ns=process.cpu_ns - less)
        judged = gate.judge(
            UUID, world.values(), dataclasses.replace(evidence, process=cut)
        )
        assert verdict_of(judged) == {Verdict.OK}


def test_a_wall_clock_that_is_set_changes_nothing() -> None:
    world, gate = World(events=()), Gate(Policy())
    world.run(60)
    world.time -= timedelta(days=1)
    first = world.judge(gate)
    world.run(1)
    assert world.judge(gate).since == first.since == START
    world.open_anew(CYCLES)
    judged = world.judge(gate)
    assert set(judged.judgements.values()) == {verdicts.ENABLED_LIVE}


def test_proven_once_is_no_doubt_later() -> None:
    world, gate = World(), Gate(Policy(withhold_in_doubt=True))
    world.run(60)
    assert verdict_of(world.judge(gate)) == {Verdict.OK}
    world.run(1)
    judged = world.judge(gate, late=9.0)
    assert judged.coverage is None
    assert verdict_of(judged) == {Verdict.OK}


@pytest.mark.parametrize(
    ("events", "used", "verdict"),
    [
        ((CYCLES,), 60, Verdict.IN_DOUBT),
        ((CYCLES, CLOCK), 0.5, Verdict.IN_DOUBT),
        ((CYCLES, CLOCK), 60, Verdict.OK),
    ],
)
def test_withhold_in_doubt(
    events: tuple[str, ...], used: float, verdict: Verdict
) -> None:
    world = World(events=events)
    world.run(used)
    judged = world.judge(Gate(Policy(withhold_in_doubt=True)))
    assert verdict_of(judged) == {verdict}


def test_more_hardware_events_than_counters() -> None:
    events = (CYCLES, "perf.instructions", "perf.cache_misses", CLOCK)
    world = World(events=events)
    world.run(60)
    for counters, expected in (
        (2, {Verdict.MULTIPLEXED, Verdict.OK}),
        (3, {Verdict.OK}),
        (0, {Verdict.OK}),
    ):
        gate = Gate(Policy(hardware_counters=counters))
        judged = world.judge(gate)
        assert verdict_of(judged) == expected
        assert judged.judgements[CLOCK] is verdicts.OK
        few = expected == {Verdict.OK}
        assert judged.withheld() == ({} if few else {"multiplexed": 3})
    judged = world.judge(
        Gate(Policy(hardware_counters=2, withhold_multiplexed=False))
    )
    assert judged.trusted(world.values()) == world.values()
    assert judged.flags() == ["multiplexed"]
    assert judged.withheld() == {}


def test_withheld_by_verdict() -> None:
    world = World(events=(CYCLES, "perf.instructions"))
    gate = Gate(Policy(hardware_counters=1))
    world.run(60)
    world.judge(gate)
    world.open_anew(CYCLES)
    assert world.judge(gate).withheld() == {"detached": 1, "multiplexed": 1}


def test_forgets_who_is_gone() -> None:
    world, gate = World(), Gate(Policy())
    world.judge(gate)
    gate.forget_all_but({"somebody else"}, lambda process: False)
    assert gate._lives == {}


STEPS = st.one_of(
    st.tuples(
        st.just("run"),
        st.floats(1, 300),
        st.sampled_from([0.0, 0.001, 0.3, 1.0, 4.0]),
    ),
    st.tuples(st.just("restart_libvirtd")),
    st.tuples(st.just("reboot")),
    st.tuples(st.just("enable_live")),
    st.tuples(st.just("new_agent")),
)


@times(5)
@given(st.lists(STEPS, max_size=40), st.floats(0.1, 2))
def test_no_growth_is_published_that_is_not_true(
    steps: list[tuple[Any, ...]], floor: float
) -> None:
    """Between two published samples of one `since`, growth is real growth.

    Whatever happens, in whatever order, an agent that is replaced included:
    but for one floor of CPU time, or what it takes to measure it, or the
    share that min_coverage lets pass.
    """
    policy = Policy(coverage_floor=floor)
    world, gate = World(), Gate(policy)
    published: dict[str, tuple[datetime, int, float]] = {}
    for step, *arguments in steps:
        if step == "new_agent":
            gate = Gate(policy)
        else:
            getattr(world, step)(*arguments)
        judged = world.judge(gate)
        for key, value in judged.trusted(world.values()).items():
            since, earlier, truth = published.get(
                key, (judged.since, value, world.truth)
            )
            if since == judged.since:
                growth = (value - earlier) / SECOND
                real = world.truth - truth
                hidden = max(2 * max(floor, 0.8) + 0.1, 0.12 * real)
                assert real - hidden <= growth <= real + 1e-6
            published[key] = (judged.since, value, world.truth)
