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

from ceilometer_perf.counters import coverage, verdicts
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
    something opens them again; then only QEMU's main thread, which uses one
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
                "stolen": 0,
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
    remedy = judged.judgements[CYCLES].remedy
    assert "hard reboot" in remedy
    assert "live migrate" in remedy


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


@pytest.mark.parametrize("late", [CYCLES, CLOCK])
def test_what_the_definition_lacks_was_enabled_live(late: str) -> None:
    """Before the agent looked for the first time."""
    others = {CYCLES, CLOCK, "perf.cpu_clock"} - {late}
    world = World(events=tuple(others))
    world.run(60)
    world.open_anew(late)
    world.run(60)
    gate = Gate(Policy())
    for _ in range(3):
        world.run(60)
        judged = world.judge(gate, undefined=frozenset({late}))
        assert judged.judgements == {
            late: verdicts.UNDEFINED,
            **dict.fromkeys(others, verdicts.OK),
        }
    world.reboot()
    world.run(60)
    judged = world.judge(gate)
    assert set(judged.judgements.values()) == {verdicts.OK}


def test_what_the_definition_lost_while_it_was_watched() -> None:
    """That is for the next boot."""
    world, gate = World(), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.run(60)
    judged = world.judge(gate, undefined=frozenset({CYCLES}))
    assert set(judged.judgements.values()) == {verdicts.OK}


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
        if not few:
            assert judged.judgements[CYCLES] == verdicts.multiplexed(3, 2)
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


# What tells one life of an instance from the next


@pytest.mark.parametrize(("pid", "started"), [(1, 0), (0, 1)])
def test_another_process_is_another_life(pid: int, started: int) -> None:
    """Even one with the same PID, and even if libvirt's id is the same."""
    world, gate = World(), Gate(Policy())
    world.run(60)
    world.judge(gate)
    boot = world.boot
    world.reboot()
    world.boot = boot
    world.pid -= 1 - pid
    world.started += started - 1
    world.run(60)
    judged = world.judge(gate)
    assert verdict_of(judged) == {Verdict.OK}
    assert judged.since == START + timedelta(seconds=60)


def test_a_process_that_is_not_seen_once_is_the_same_still() -> None:
    world, gate = World(events=(CLOCK,)), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.open_anew(CYCLES)
    world.run(60)
    judged = world.judge(gate, process=None)
    assert judged.judgements[CYCLES] is verdicts.ENABLED_LIVE
    assert world.judge(gate).since == START


def test_a_process_that_is_seen_later_is_remembered() -> None:
    world, gate = World(events=(CYCLES,)), Gate(Policy())
    world.judge(gate, process=None)
    world.run(60)
    assert world.judge(gate).since == START
    boot = world.boot
    world.reboot()
    world.boot = boot
    world.run(10)
    judged = world.judge(gate)
    assert judged.since == START + timedelta(seconds=60)
    assert verdict_of(judged) == {Verdict.OK}


def test_instances_are_judged_apart() -> None:
    world, other, gate = World(), World(), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.open_anew(CYCLES)
    world.judge(gate)
    other.reboot()
    other.run(60)
    apart = gate.judge("other", other.values(), other.evidence())
    assert verdict_of(apart) == {Verdict.OK}
    world.run(600)
    assert world.judge(gate).judgements[CYCLES] == verdicts.FELL


def detached(world: World, gate: Gate) -> bool:
    """Whether the gate still knows that a counter fell."""
    world.run(600)
    judgement = world.judge(gate, driver=Process(0, 0, 17, 0)).judgements
    return judgement[CYCLES] == verdicts.FELL


@pytest.fixture
def fallen() -> tuple[World, Gate]:
    world, gate = World(events=(CYCLES,)), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.open_anew(CYCLES)
    world.judge(gate, driver=Process(0, 0, 17, 0))
    return world, gate


def test_who_is_listed_is_remembered(fallen: tuple[World, Gate]) -> None:
    world, gate = fallen
    gate.forget_all_but({UUID}, lambda process: False)
    assert detached(world, gate)


def test_who_runs_unlisted_is_remembered(fallen: tuple[World, Gate]) -> None:
    world, gate = fallen
    gate.forget_all_but((), lambda process: process.pid == world.pid)
    assert detached(world, gate)


def test_who_neither_runs_nor_is_listed_is_forgotten(
    fallen: tuple[World, Gate],
) -> None:
    world, gate = fallen
    gate.forget_all_but((), lambda process: process.pid != world.pid)
    assert not detached(world, gate)


def test_who_was_never_seen_to_run_is_forgotten() -> None:
    world, gate = World(events=(CYCLES,)), Gate(Policy())
    world.run(60)
    unseen = {"process": None, "driver": None}
    world.judge(gate, **unseen)
    world.open_anew(CYCLES)
    world.judge(gate, **unseen)
    gate.forget_all_but((), lambda process: True)
    assert verdict_of(world.judge(gate, **unseen)) == {Verdict.OK}


@pytest.mark.parametrize(
    ("age", "late", "meanwhile"),
    [(0.02, 0, True), (0.03, 0, False), (1, 1, True), (1.1, 1, False)],
)
def test_started_while_the_counters_were_read(
    age: float, late: float, meanwhile: bool
) -> None:
    evidence = World().evidence(
        process=Process(1, 0, 4, 0), uptime=age, late=late
    )
    assert evidence.started_meanwhile is meanwhile
    unseen = dataclasses.replace(evidence, process=None)
    assert not unseen.started_meanwhile
    assert evidence.age == pytest.approx(age)
    assert unseen.age == 0


@pytest.mark.parametrize(
    ("driver", "younger"), [(99, False), (100, False), (101, True)]
)
def test_libvirtd_that_started_after_the_guest(
    driver: int, younger: bool
) -> None:
    evidence = World(ticks=100, driver_started=driver).evidence()
    assert evidence.driver_is_younger is younger
    for unknown in (
        dataclasses.replace(evidence, process=None),
        dataclasses.replace(evidence, driver=None),
    ):
        assert not unknown.driver_is_younger


# What is detached with what fell

INSTRUCTIONS = "perf.instructions"


@pytest.mark.parametrize(
    ("driver", "why"),
    [(None, verdicts.FELL), (Process(0, 10_000, 17, 0), verdicts.RESTARTED)],
)
def test_one_that_fell_takes_all_along(
    driver: Process | None, why: verdicts.Judgement
) -> None:
    """Though a clock still counts right: libvirtd has opened all of them."""
    world = World(events=(CYCLES, INSTRUCTIONS, CLOCK))
    gate = Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.open_anew(CYCLES)
    world.run(60)
    judged = world.judge(gate, driver=driver)
    assert set(judged.judgements.values()) == {why}


def test_one_that_fell_under_an_older_libvirtd_falls_alone() -> None:
    world, gate = World(events=(CYCLES, INSTRUCTIONS)), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.open_anew(CYCLES)
    judged = world.judge(gate)
    assert judged.judgements == {
        CYCLES: verdicts.FELL,
        INSTRUCTIONS: verdicts.OK,
    }


def test_a_level_may_fall() -> None:
    world, gate = World(events=("perf.cmt", "perf.mbmt")), Gate(Policy())
    world.run(60)
    world.judge(gate)
    world.counters["perf.cmt"] = 0.0
    assert verdict_of(world.judge(gate)) == {Verdict.OK}
    world.counters["perf.mbmt"] = 0.0
    assert world.judge(gate).judgements == {
        "perf.cmt": verdicts.OK,
        "perf.mbmt": verdicts.FELL,
    }


def test_an_event_that_a_younger_libvirtd_brought() -> None:
    world, gate = World(events=()), Gate(Policy())
    world.run(600)
    world.judge(gate)
    world.restart_libvirtd()
    world.open_anew(CYCLES)
    judged = world.judge(gate)
    assert set(judged.judgements.values()) == {verdicts.RESTARTED}


@pytest.mark.parametrize(
    ("seconds", "why"),
    [(30, verdicts.OK), (31, verdicts.ENABLED_LIVE)],
)
def test_how_long_a_guest_may_take_to_start(
    seconds: float, why: verdicts.Judgement
) -> None:
    world, gate = World(events=(), ticks=10_000), Gate(Policy())
    world.run(seconds)
    world.judge(gate, driver=None)
    world.open_anew(CYCLES)
    assert set(world.judge(gate, driver=None).judgements.values()) == {why}


# What coverage is, and when it decides


def test_a_floor_of_cpu_time_is_enough() -> None:
    world = World()
    world.run(1)
    assert world.judge(Gate(Policy(coverage_floor=1))).coverage == 1


@pytest.mark.parametrize(("used", "known"), [(0.39, False), (0.4, True)])
def test_two_ticks_are_how_exact_cpu_time_is(used: float, known: bool) -> None:
    world = World()
    world.run(used)
    judged = world.judge(Gate(Policy(coverage_floor=0.1)))
    assert (judged.coverage is not None) is known


def test_coverage_is_known_in_each_cycle_once_it_is() -> None:
    world, gate = World(), Gate(Policy(coverage_floor=10))
    for cycle in range(1, 12):
        world.run(4)
        coverage = world.judge(gate).coverage
        assert (coverage is not None) is (cycle >= 3)


def test_coverage_is_of_the_last_floors_of_cpu_time() -> None:
    world, gate = World(), Gate(Policy(coverage_floor=1))
    for _ in range(2):
        world.run(1)
        world.judge(gate)
    world.sees_vcpus[CLOCK] = False
    world.run(1)
    assert world.judge(gate).coverage == pytest.approx(0.505)
    world.run(1)
    assert world.judge(gate).coverage == pytest.approx(0.01)


def test_a_clock_that_fell_is_measured_from_there() -> None:
    world, gate = World(), Gate(Policy())
    for _ in range(2):
        world.run(60)
        world.judge(gate)
    world.counters[CLOCK] = 0.0
    assert world.judge(gate).coverage is None
    for _ in range(3):
        world.run(60)
        assert world.judge(gate).coverage == pytest.approx(1)


def test_just_enough_coverage_is_enough() -> None:
    world, gate = World(), Gate(Policy(min_coverage=0.9))
    world.run(10)
    world.counters = {CYCLES: 10.0, CLOCK: 9.0}
    judged = world.judge(gate)
    assert judged.coverage == 0.9
    assert verdict_of(judged) == {Verdict.OK}


@pytest.mark.parametrize(
    ("threads", "cpus"), [(4, 8), (8, 4)], ids=["threads", "cpus"]
)
def test_each_thread_that_has_a_cpu_may_have_run_on(
    threads: int, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second late: 2 s of CPU time, 5 % of 40."""
    monkeypatch.setattr(coverage, "_CPUS", cpus)
    for used, known in (30, False), (60, True):
        world = World()
        world.run(used)
        process = world.evidence().process
        assert process is not None
        judged = world.judge(
            Gate(Policy()),
            process=dataclasses.replace(process, threads=threads),
            late=0.5,
        )
        assert (judged.coverage is not None) is known


def test_a_clock_that_was_detached_proves_nothing() -> None:
    world = World(events=(CYCLES,))
    gate = Gate(Policy(withhold_in_doubt=True))
    world.run(60)
    world.judge(gate)
    world.open_anew(CLOCK)
    world.sees_vcpus[CLOCK] = True
    world.run(6000)
    judged = world.judge(gate)
    assert judged.coverage == pytest.approx(0.99, abs=0.01)
    assert judged.judgements == {
        CYCLES: verdicts.IN_DOUBT,
        CLOCK: verdicts.ENABLED_LIVE,
    }


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


def test_cpus_of_several_kinds_have_no_hardware_events() -> None:
    """A plain one counts on one kind of them, and nothing shows it."""
    gate = Gate(Policy(is_hybrid=True))
    judged = gate.judge("web", {CYCLES: 5, CLOCK: 5}, World().evidence())
    assert judged.judgements == {
        CYCLES: verdicts.HYBRID, CLOCK: verdicts.OK,
    }  # fmt: skip
    assert judged.trusted({CYCLES: 5, CLOCK: 5}) == {CLOCK: 5}
