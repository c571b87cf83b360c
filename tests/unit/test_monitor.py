# SPDX-License-Identifier: Apache-2.0
"""Read, judge, derive: what comes out, and what is said about it."""

import dataclasses
import logging
import shutil
import time
from array import array
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.monitor import Monitor
from ceilometer_perf.counters.own import Own, OwnPolicy
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.trust import Judged, Policy
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.counting import Wanted
from ceilometer_perf.host.processes import Process, Processes
from ceilometer_perf.reading import (
    Counters,
    Guest,
    Moment,
    Reading,
    SourceUnavailableError,
)
from tests.unit.fakes import READ_AT, FakeSource, gated, guest, unavailable
from tests.unit.test_processes import Host

CYCLES, INSTRUCTIONS = "perf.cpu_cycles", "perf.instructions"
CLOCK = "perf.task_clock"


def reading(at: float, counters: Counters, **guests: Guest) -> Reading:
    return Reading(
        asked_at=time.monotonic(),
        taken_at=at,
        guests={"web": guest("instance-1"), **guests},
        instances={"web": counters},
    )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.start("driver", 1, started=10)
    host.start("instance-1", uuid="web", pid=2, started=500)
    return host


@pytest.fixture
def busy(host: Host) -> Host:
    """Whose instance has used enough for its counters to be judged by."""
    host.start("instance-1", uuid="web", pid=2, started=500, utime=600)
    return host


def monitor(host: Host, *readings: Reading | Exception) -> Monitor:
    return watching(host.processes, FakeSource(*readings))


def watching(processes: Processes, source: FakeSource) -> Monitor:
    return Monitor(gated(source, processes), None, processes, Policy())


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = (record.getMessage() for record in caplog.records)
    return [text for text in texts if text.startswith("instance ")]


def test_values_and_metadata(
    busy: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 60.0)
    used = 6_070_000_000
    counters = {CYCLES: used, INSTRUCTIONS: used, CLOCK: used}
    more = {CYCLES: used + 200, INSTRUCTIONS: used + 100, CLOCK: used}
    look = monitor(busy, reading(0, counters), reading(60, more)).look
    look()
    report = look()
    published = report.published["web"]
    assert published.values == {
        **more,
        "perf.coverage": 1.0,
        "perf.withheld": 0,
        "perf.derived.ipc": 0.5,
    }
    assert published.about("perf.withheld")["verdicts"] == {}
    booted = busy.processes.booted_at("instance-1")
    assert booted is not None
    assert published.metadata == {
        "source": "libvirt",
        "since": booted.isoformat(),
        "coverage": 1.0,
        "flags": [],
    }


def test_the_slice_is_said(host: Host) -> None:
    sliced = guest("instance-1", slice="half-0")
    look = monitor(host, reading(0, {CYCLES: 5}, web=sliced)).look
    assert look().published["web"].metadata["slice"] == "half-0"


def test_detached_is_withheld_but_its_coverage_is_not(
    busy: Host, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    look = monitor(busy, reading(0, {CYCLES: 5, CLOCK: 60_750_000})).look
    for _ in range(3):
        published = look().published["web"]
        assert published.values == {"perf.coverage": 0.01, "perf.withheld": 2}
    # Only the sample of that meter says which they are.
    verdicts = published.about("perf.withheld")["verdicts"]
    assert verdicts == {"detached": 2}
    assert published.about("perf.coverage") == published.metadata
    assert "verdicts" not in published.metadata
    (line,) = lines(caplog)
    assert "perf.hw.cpu_cycles, perf.sw.task_clock: detached" in line
    assert "hard reboot" in line


def test_each_reason_is_told_with_its_counters(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    look = monitor(
        host, reading(0, {CYCLES: 5}),
        reading(60, {CYCLES: 4, INSTRUCTIONS: 1}),
    ).look  # fmt: skip
    look()
    look()
    (line,) = lines(caplog)
    fell, live = verdicts.FELL, verdicts.ENABLED_LIVE
    assert line == (
        f"instance web (instance-1): perf.hw.cpu_cycles: {fell}; "
        f"perf.hw.instructions: {live}"
    )


def test_a_pmu_that_does_not_count_is_never_published(busy: Host) -> None:
    """The first reading, too."""
    stuck = {CYCLES: 12_345_678, INSTRUCTIONS: 0, CLOCK: 6_070_000_000}
    look = monitor(busy, reading(0, stuck), reading(60, stuck)).look
    for _ in range(2):
        published = look().published["web"]
        assert published.values.keys() & stuck.keys() == {CLOCK}
        assert published.about("perf.withheld")["verdicts"] == {
            "implausible": 2
        }


def test_where_nothing_is_enabled_nothing_is_withheld(host: Host) -> None:
    assert monitor(host, reading(0, {})).look().published["web"].values == {}


def test_recovery_is_said(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    look = monitor(
        host, reading(0, {CYCLES: 5}), reading(60, {CYCLES: 4}),
        reading(120, {CYCLES: 6}), reading(180, {CYCLES: 7}),
    ).look  # fmt: skip
    look()
    look()
    (host.proc / "2" / "stat").unlink()
    host.start("instance-1", uuid="web", pid=3, started=900)
    assert look().published["web"].values == {CYCLES: 6, "perf.withheld": 0}
    look()
    detached, fine = lines(caplog)
    assert "detached" in detached
    assert "nothing is withheld" in fine


def test_who_is_not_read_and_why(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    guests = {
        "off": guest("instance-3", id=-1),
        "rt": guest("instance-2", id=0, realtime=True),
        "new": guest("instance-4"),
    }
    look = monitor(host, reading(0, {CYCLES: 5}, **guests)).look
    for _ in range(3):
        unread = look().unread
    assert {uuid: each.verdict for uuid, each in unread.items()} == {
        "rt": Verdict.REALTIME,
        "off": Verdict.NOT_RUNNING,
        "new": Verdict.NOT_RUNNING,
    }
    (line,) = lines(caplog)
    assert "poll_realtime_guests" in line


def test_what_libvirt_can_not_read_is_stale(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """And the others are published."""
    bad = {"bad": guest("instance-9")}
    found = dataclasses.replace(
        reading(0, {CYCLES: 5}, **bad), failed={"bad": "no such counter"}
    )
    report = monitor(host, found).look()
    assert report.published["web"].values[CYCLES] == 5
    assert report.unread["bad"].verdict is Verdict.STALE
    (line,) = lines(caplog)
    assert line.startswith("instance bad (instance-9): stale")
    assert line.endswith("no such counter")


def test_counters_of_the_process_before_are_not_the_new_one_s(
    host: Host,
) -> None:
    """Booted between the reading of the counters and that of /proc."""
    old = reading(0, {CYCLES: 5_000})
    ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * 100
    host.start("instance-1", uuid="web", pid=3, started=int(ticks))
    new = dataclasses.replace(
        reading(60, {CYCLES: 7}), asked_at=time.monotonic() + 60
    )
    look = monitor(host, old, new).look
    report = look()
    assert report.published == {}
    assert report.unread["web"].verdict is Verdict.NOT_RUNNING
    assert look().published["web"].values == {CYCLES: 7, "perf.withheld": 0}


def test_forgets_who_is_gone(host: Host) -> None:
    gone = Reading(60, 60, {}, {})
    watch = monitor(host, reading(0, {CYCLES: 5}), gone)
    watch.look()
    (host.proc / "2" / "stat").unlink()
    watch.look()
    assert watch._libvirt._gate._lives == {}
    assert watch._derived._earlier == {}
    assert set(watch._processes._found) == {"driver"}


def test_what_is_detached_stays_so_after_a_migration_that_failed(
    host: Host,
) -> None:
    """libvirt lists the instance again, in the QEMU process that it had."""
    away = Reading(120, 120, {}, {})
    look = monitor(
        host, reading(0, {CYCLES: 5}), reading(60, {CYCLES: 4}), away,
        reading(180, {CYCLES: 6}),
    ).look  # fmt: skip
    for _ in range(4):
        report = look()
    judged = report.judged["web"].judgements[CYCLES]
    assert judged.verdict is Verdict.DETACHED
    assert report.published["web"].values == {"perf.withheld": 1}


def test_unavailable_is_the_callers(host: Host) -> None:
    error = unavailable()
    with pytest.raises(type(error)):
        monitor(host, error).look()


def test_no_process_to_see_is_no_coverage(tmp_path: Path) -> None:
    source = FakeSource(reading(0, {CLOCK: 5}))
    watch = watching(Processes(tmp_path), source)
    published = watch.look().published["web"]
    assert published.values == {CLOCK: 5, "perf.withheld": 0}
    assert published.metadata["coverage"] is None


def test_counters_of_a_process_that_is_gone_are_not_published(
    host: Host,
) -> None:
    """libvirt read them before it was; the next one is not seen yet."""
    look = monitor(host, reading(0, {CYCLES: 5})).look
    assert "web" in look().published
    shutil.rmtree(host.proc / "2")
    report = look()
    assert report.published == {}
    assert report.unread == {"web": verdicts.MEANWHILE}
    host.start("instance-1", uuid="web", pid=3, started=700)
    assert "web" in look().published


class FakeOwn:
    """Answers with these values each time, opened at a moment of its own."""

    def __init__(
        self, values: dict[str, int], process: Process | None
    ) -> None:
        self.values = values
        self.process = process
        self.verdict = verdicts.OK
        self.opened = datetime.now(UTC)

    def look(
        self, guests: Mapping[str, Guest], answers: Mapping[str, Answer]
    ) -> Mapping[str, Answer]:
        judgements = dict.fromkeys(self.values, self.verdict)
        judged = Judged(judgements, 1.0, self.opened)
        return {
            uuid: Answer(
                "own", Moment(1.0, READ_AT), self.process, self.values,
                judged.trusted(self.values), judged,
            )
            for uuid in answers
            if self.process is not None
        }  # fmt: skip

    def forget_all_but(self, uuids: Container[str]) -> None:
        pass


def both(host: Host, source: FakeSource, own: FakeOwn) -> Monitor:
    libvirt = gated(source, host.processes)
    return Monitor(
        libvirt,
        own,  # type: ignore[arg-type]
        host.processes,
        Policy(),
    )


def test_own_counters_take_the_place_of_libvirt_s(host: Host) -> None:
    own = FakeOwn({CYCLES: 7}, host.processes.guest("instance-1", "web"))
    report = both(host, FakeSource(reading(0, {CYCLES: 9})), own).look()
    published = report.published["web"]
    assert published.values == {
        CYCLES: 7, "perf.withheld": 0, "perf.coverage": 1,
    }  # fmt: skip
    assert published.metadata["source"] == "own"
    assert published.metadata["since"] == own.opened.isoformat()
    assert published.moment.taken_at == 1
    assert report.reading.instances["web"] == {CYCLES: 7}


@pytest.mark.parametrize("why", [verdicts.NOT_RUNNING, verdicts.MEANWHILE])
def test_nothing_is_published_of_who_ended_meanwhile(
    host: Host, why: Judgement
) -> None:
    """Not even that none of its counters is withheld."""
    own = FakeOwn({CYCLES: 7}, host.processes.guest("instance-1", "web"))
    own.verdict = why
    report = both(host, FakeSource(reading(0, {})), own).look()
    assert report.published == {}
    assert report.judged == {}
    assert report.unread == {"web": verdicts.MEANWHILE}


def test_own_counters_begin_in_the_cycle_that_finds_libvirt_s_detached(
    host: Host,
) -> None:
    """The next one publishes them: no more than one interval is lost."""
    asked = []

    def ask(wanted: Sequence[Wanted], events: Sequence[str]) -> bytes:
        asked.append([each.uuid for each in wanted])
        count, ns = 1000 * len(asked), 10**7 * len(asked)
        row = [0, 5, 3, ns, count, ns]
        return array("q", row * len(wanted)).tobytes()

    events = OwnPolicy(("cpu_cycles", "task_clock"))
    before = {CYCLES: 9, CLOCK: 6_070_000_000}
    source = FakeSource(reading(0, before), reading(60, {CYCLES: 1, CLOCK: 1}))
    watch = Monitor(
        gated(source, host.processes),
        Own(ask, host.processes, Policy(), events),
        host.processes,
        Policy(),
    )
    found = [watch.look().published["web"] for _ in range(3)]
    assert asked == [["web"], ["web"]]
    assert [each.metadata["source"] for each in found] == [
        "libvirt", "own", "own",
    ]  # fmt: skip
    assert [each.values.get(CYCLES) for each in found] == [9, None, 2000]
    since = [each.metadata["since"] for each in found]
    assert since[0] != since[1] == since[2]


def test_no_ratio_spans_two_sources(host: Host) -> None:
    """Each has a ``since`` of its own."""
    source = FakeSource(*(ipc(at, 100 + at) for at in (0, 60, 120, 180)))
    own = FakeOwn({CYCLES: 1000, INSTRUCTIONS: 10}, None)
    look = both(host, source, own).look
    ratios = []
    for counted in (False, False, True, False):
        own.process = (
            host.processes.guest("instance-1", "web") if counted else None
        )
        ratios.append(look().published["web"].values.get("perf.derived.ipc"))
    assert ratios == [None, 2, None, None]


def ipc(at: float, cycles: int) -> Reading:
    """Two instructions in each cycle."""
    return reading(at, {CYCLES: cycles, INSTRUCTIONS: 2 * cycles})


def test_the_last_report(busy: Host) -> None:
    watched = monitor(
        busy, reading(0, {CLOCK: 1}), unavailable(), reading(60, {CLOCK: 2})
    )
    assert watched.last.guests == {}
    first = watched.look()
    with pytest.raises(SourceUnavailableError):
        watched.look()
    assert watched.last is first
    assert watched.look() is watched.last
