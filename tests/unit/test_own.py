# SPDX-License-Identifier: Apache-2.0
"""Whom the agent counts itself, and what it says of the rest."""

import errno
import logging
import time
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.own import Own, OwnPolicy
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.trust import Judged, Policy
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.counted import NOT_WANTED
from ceilometer_perf.host.counting import Wanted
from ceilometer_perf.reading import Moment, utc_now
from tests.unit.fakes import READ_AT, guest
from tests.unit.test_processes import Host

CYCLES, CLOCK = "perf.cpu_cycles", "perf.task_clock"
EVENTS = ("cpu_cycles", "task_clock")
OK, DETACHED = verdicts.OK, verdicts.RESTARTED
SECOND = 1_000_000_000


def uptime() -> int:
    """In ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Helper:
    """Answers each instance with a row, or fails."""

    def __init__(self) -> None:
        self.asked: list[list[Wanted]] = []
        self.row = [0, 5, 3, 10, 100, 10]
        self.error: Exception | None = None

    def __call__(
        self, wanted: Sequence[Wanted], events: Sequence[str]
    ) -> bytes:
        assert tuple(events) == EVENTS
        self.asked.append(list(wanted))
        if self.error is not None:
            raise self.error
        return array("q", self.row * len(wanted)).tobytes()


class Agent:
    def __init__(self, host: Host, **policy: object) -> None:
        self.host = host
        self.helper = Helper()
        self.own = self.make(**policy)

    def make(self, **policy: object) -> Own:
        own = OwnPolicy(EVENTS, **policy)  # type: ignore[arg-type]
        return Own(self.helper, self.host.processes, Policy(), own)

    def look(self, **libvirt: Mapping[str, Judgement]) -> Mapping[str, Answer]:
        """``libvirt``: its judgements, by instance."""
        return self.own.look(
            {uuid: guest(f"instance-{uuid}") for uuid in libvirt},
            {uuid: self._answer(uuid, j) for uuid, j in libvirt.items()},
        )

    def _answer(self, uuid: str, judged: Mapping[str, Judgement]) -> Answer:
        return Answer(
            "libvirt", Moment(1.0, READ_AT),
            self.host.process(f"instance-{uuid}"), {}, {},
            Judged(judged, None, READ_AT),
        )  # fmt: skip

    def counted(self) -> list[str]:
        """Whom it asked for last."""
        return [wanted.uuid for wanted in self.helper.asked[-1]]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.start("instance-web", 2, started=500)
    host.start("instance-db", 3, started=500)
    return host


@pytest.fixture
def agent(host: Host) -> Agent:
    return Agent(host)


def given_verdicts(answer: Answer) -> dict[str, Verdict]:
    return {k: j.verdict for k, j in answer.judged.judgements.items()}


@pytest.mark.parametrize(
    ("judged", "counted"),
    [
        ({}, True),
        ({CLOCK: OK}, False),
        ({CYCLES: OK, CLOCK: OK}, False),
        ({CYCLES: DETACHED, CLOCK: DETACHED}, True),
        # What else there is of libvirt's is not in the way.
        ({CYCLES: DETACHED, CLOCK: OK}, True),
        # Both would share the CPUs' counters.
        ({CYCLES: OK, CLOCK: DETACHED}, False),
        ({CYCLES: verdicts.multiplexed(9, 4)}, False),
        ({CYCLES: verdicts.IN_DOUBT}, False),
    ],
)
def test_whom_it_counts(
    agent: Agent, judged: Mapping[str, Judgement], counted: bool
) -> None:
    found = agent.look(web=judged)
    assert list(found) == (["web"] if counted else [])
    assert bool(agent.helper.asked) == counted


def test_what_is_published(agent: Agent) -> None:
    first = agent.look(web={}, db={})
    assert {given_verdicts(a)[CLOCK] for a in first.values()} == {Verdict.NEW}
    assert agent.counted() == ["web", "db"]
    found = agent.look(web={}, db={})["web"]
    assert found.source == "own"
    assert found.trusted == {CYCLES: 100, CLOCK: 10}
    assert found.judged.since == first["web"].judged.since


def test_when_it_was_read(agent: Agent) -> None:
    before = Moment(time.monotonic(), utc_now())
    found = agent.look(web={})["web"]
    after = Moment(time.monotonic(), utc_now())
    assert before.taken_at <= found.moment.taken_at <= after.taken_at
    assert before.at <= found.moment.at <= after.at
    assert found.process is not None
    assert found.process.pid == 2


def test_who_is_gone_is_forgotten(agent: Agent) -> None:
    for _ in range(2):
        agent.look(web={}, db={})
    agent.own.forget_all_but({"web"})
    found = agent.look(web={}, db={})
    assert given_verdicts(found["web"])[CLOCK] is Verdict.OK
    assert given_verdicts(found["db"])[CLOCK] is Verdict.NEW
    # So is who is there, and counted by libvirt again.
    agent.look(web={}, db={CLOCK: OK})
    agent.own.forget_all_but({"web", "db"})
    found = agent.look(web={}, db={})
    assert given_verdicts(found["web"])[CLOCK] is Verdict.OK
    assert given_verdicts(found["db"])[CLOCK] is Verdict.NEW


def test_whom_libvirt_counts_again_is_released(agent: Agent) -> None:
    agent.look(web={})
    agent.look(web={CLOCK: OK})
    assert agent.counted() == []
    agent.look(web={CLOCK: OK})
    assert len(agent.helper.asked) == 2


def test_always(host: Host) -> None:
    agent = Agent(host, always=True)
    agent.look(web={CLOCK: OK}, db={CYCLES: OK})
    assert [(w.uuid, w.hardware) for w in agent.helper.asked[-1]] == [
        ("web", True), ("db", False),
    ]  # fmt: skip
    agent.helper.row = [0, 5, 3, 10, -NOT_WANTED, 10]
    found = agent.look(db={CYCLES: OK})["db"]
    assert found.judged.judgements[CYCLES] == verdicts.COUNTED_BY_LIBVIRT


def test_no_hardware_here(host: Host) -> None:
    agent = Agent(host, no_hardware=verdicts.MEDIATED)
    agent.helper.row = [0, 5, 3, 10, -NOT_WANTED, 10]
    for _ in range(2):
        found = agent.look(web={})["web"]
    assert not agent.helper.asked[-1][0].hardware
    assert given_verdicts(found) == {
        CYCLES: Verdict.PMU_TAKEN, CLOCK: Verdict.OK,
    }  # fmt: skip
    assert found.trusted == {CLOCK: 10}


def test_what_the_host_lacks_is_not_withheld(agent: Agent) -> None:
    agent.helper.row = [0, 5, 3, 10, -errno.ENOENT, 10]
    for _ in range(2):
        found = agent.look(web={})["web"]
    assert given_verdicts(found) == {CLOCK: Verdict.OK}


def test_what_is_not_counted_at_all_covers_nothing_wrong(
    agent: Agent, host: Host
) -> None:
    agent.helper.row = [0, 5, 3, 0, -errno.ENOENT, -errno.ENOENT]
    agent.look(web={})
    host.start("instance-web", 2, started=500, utime=1000)
    for _ in range(2):
        found = agent.look(web={})["web"]
    assert found.judged.coverage is None
    assert {wanted.attempt for (wanted,) in agent.helper.asked} == {0}


def test_nothing_yet_is_a_count(agent: Agent) -> None:
    agent.helper.row = [0, 5, 3, 10, -errno.ENOENT, 0]
    for _ in range(2):
        found = agent.look(web={})["web"]
    assert found.counters == found.trusted == {CLOCK: 0}
    assert given_verdicts(found) == {CLOCK: Verdict.OK}


def test_wrong_ones_are_opened_again(agent: Agent, host: Host) -> None:
    agent.look(web={})
    host.start("instance-web", 2, started=500, utime=1000)
    found = agent.look(web={})["web"]
    assert given_verdicts(found)[CLOCK] is Verdict.MISCOUNTED
    assert found.trusted == {}
    agent.helper.row[1] = 6
    agent.look(web={})
    before, after = (asked[0] for asked in agent.helper.asked[-2:])
    assert (before.attempt, after.attempt) == (0, 1)
    agent.look(web={})
    assert agent.helper.asked[-1][0].attempt == 1


def meanwhile(agent: Agent, *started: tuple[int, int]) -> None:
    """The instance's process ends when it is counted, or another starts."""

    def asked(wanted: Sequence[Wanted], events: Sequence[str]) -> bytes:
        (agent.host.proc / "2" / "stat").unlink()
        for pid, at in started:
            agent.host.start("instance-web", pid, started=at)
        return agent.helper(wanted, events)

    agent.own._ask = asked


OTHERS = pytest.mark.parametrize("started", [[], [(4, 900)]])


@OTHERS
def test_what_is_opened_is_the_process_that_is_seen_then(
    agent: Agent, started: list[tuple[int, int]]
) -> None:
    agent.helper.row[1] = uptime() + 100 * SECOND
    meanwhile(agent, *started)
    found = agent.look(web={})["web"]
    assert (found.process, found.counters, found.trusted) == (None, {}, {})
    assert found.source == "own"
    assert found.judged.since == found.moment.at
    assert found.judged.coverage is None
    assert set(given_verdicts(found).values()) == {Verdict.NOT_RUNNING}


@OTHERS
def test_what_is_counted_is_the_process_that_was_opened(
    agent: Agent, started: list[tuple[int, int]]
) -> None:
    agent.look(web={})
    meanwhile(agent, *started)
    found = agent.look(web={})["web"]
    assert found.process is not None
    assert found.process.pid == 2
    assert set(given_verdicts(found).values()) == {Verdict.OK}
    agent.own._ask = agent.helper
    for pid, _ in started:
        assert agent.host.process("instance-web") is not None
        agent.look(web={})
        assert agent.helper.asked[-1][0].pid == pid


def test_what_it_used_until_it_was_counted_is_not_missed(
    agent: Agent, host: Host
) -> None:
    """The helper takes a while to start, and the instance is busy."""

    def asked(wanted: Sequence[Wanted], events: Sequence[str]) -> bytes:
        agent.helper.row[1] = uptime()
        host.start("instance-web", 2, started=500, utime=4000)
        return agent.helper(wanted, events)

    agent.own._ask = asked
    agent.look(web={})
    agent.own._ask = agent.helper
    agent.helper.row[3:] = [n + 10 * SECOND for n in agent.helper.row[3:]]
    host.start("instance-web", 2, started=500, utime=5000)
    found = agent.look(web={})["web"]
    assert found.judged.coverage == pytest.approx(1, abs=0.01)


def test_what_was_stolen_is_known(agent: Agent, host: Host) -> None:
    def grown(seconds: int, ticks: int) -> Answer:
        (host.proc / "stat").write_text(f"cpu 1 2 3 4 5 0 0 {ticks} 0 0\n")
        host.start("instance-web", 2, started=500, utime=1000 * seconds)
        agent.helper.row[3:] = [11 * seconds * SECOND] * 3
        return agent.look(web={})["web"]

    grown(0, 0)
    assert grown(1, 100).judged.coverage == pytest.approx(1)
    assert grown(2, 100).judged.coverage == pytest.approx(1.05)


def test_a_process_that_can_not_be_seen(
    agent: Agent, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (host.run / "instance-web.pid").unlink()
    for _ in range(2):
        assert list(agent.look(web={}, db={})) == ["db"]
    host.start("instance-web", 2, started=500)
    for _ in range(2):
        assert list(agent.look(web={}, db={})) == ["web", "db"]
    unseen, seen = [record.getMessage() for record in caplog.records]
    assert "qemu_run_dir" in unseen
    assert "all can be seen" in seen


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (errno.EACCES, Verdict.REFUSED),
        (errno.EPERM, Verdict.REFUSED),
        (errno.EMFILE, Verdict.REFUSED),
        (errno.ENOSYS, Verdict.HOST_LACKS),
        (errno.EBUSY, Verdict.PMU_TAKEN),
        (errno.ESRCH, Verdict.NOT_RUNNING),
        (errno.EAGAIN, Verdict.STALE),
        (errno.ENOMEM, Verdict.STALE),
    ],
)
def test_errors_of_one_instance(
    agent: Agent, number: int, verdict: Verdict
) -> None:
    agent.helper.row = [number, 0, 0]
    found = agent.look(web={})["web"]
    assert set(given_verdicts(found).values()) == {verdict}
    assert found.trusted == {}


def test_a_helper_that_fails_is_said_once(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    agent.helper.error = PermissionError("sudo says no")
    for _ in range(2):
        assert agent.look(web={}) == {}
    agent.helper.error = None
    agent.look(web={})
    refused, again = [record.getMessage() for record in caplog.records]
    assert "PermissionError: sudo says no" in refused
    assert "sudoers" in refused
    assert "read again" in again


def test_a_command_without_privilege_says_so(host: Host) -> None:
    own = Own(None, host.processes, Policy(), OwnPolicy(EVENTS))
    agent = Agent(host)
    agent.own = own
    found = agent.look(web={})["web"]
    assert set(given_verdicts(found).values()) == {Verdict.UNSEEN}
    assert found.judged.withheld() == {}
