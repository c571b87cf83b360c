# SPDX-License-Identifier: Apache-2.0
"""What was lost, what was untrue, and what an agent holds meanwhile."""

import bisect
import contextlib
import itertools
import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ceilometer_perf.meters import METERS, PERF_KEYS
from tests.functional.agent import Agent, wait_for
from tests.lab import Guest, Lab, LabError
from tests.lab.pmu import made_up
from tests.lab.stolen import stolen

COUNTERS = frozenset(m.name for m in METERS if m.key in PERF_KEYS)
CLOCK = "perf.sw.task_clock"
CLOCKS = frozenset({CLOCK, "perf.sw.cpu_clock"})

SLACK = 0.2  # seconds that a cycle may come earlier or later
TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # ns


def rates() -> dict[str, float]:
    """What meters count in a ns of CPU time, in a lab with a made-up PMU."""
    hardware = {f"perf.hw.{e}": rate / 1000 for e, rate in made_up().items()}
    return dict.fromkeys(CLOCKS, 1.0) | hardware


@dataclass(frozen=True)
class Usage:
    """What a process and its descendants hold."""

    rss_kib: int
    threads: int
    descriptors: int


def usage(pid: int, *, family: bool = True) -> Usage:
    """Of this moment; without its ``family``, of the one process."""
    found = list(_family(pid)) if family else [pid]
    status = [Path(f"/proc/{each}/status").read_text() for each in found]
    return Usage(
        sum(_field(text, "VmRSS:") for text in status),
        sum(_field(text, "Threads:") for text in status),
        sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in found),
    )


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def _field(status: str, name: str) -> int:
    return int(status.partition(name)[2].split()[0])


def slope(points: Iterable[tuple[float, float]]) -> float:
    """Of the straight line through them, by least squares."""
    xs, ys = zip(*points, strict=True)
    return float(statistics.linear_regression(xs, ys).slope)


@dataclass(frozen=True, slots=True)
class Seen:
    """A sample, as far as it is of interest here."""

    meter: str
    kind: str
    instance: str
    volume: float
    #: When its counters were read, by the monotonic clock.
    at: float
    since: str
    #: When they started, by the same clock.
    started: float


class Spool:
    """What an agent has sent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._seen: list[Seen] = []

    def seen(self) -> list[Seen]:
        """All samples so far."""
        new = self._agent.samples()[len(self._seen) :]
        self._seen += map(_seen, new)
        return self._seen

    def wait(
        self, after: float, count: int = 1, *, meter: str = CLOCK,
        instance: str = "", seconds: float = 60,
    ) -> list[Seen]:  # fmt: skip
        """Samples that were read after a moment, once there are enough."""

        def enough() -> list[Seen]:
            found = [
                each
                for each in self.seen()
                if each.at > after
                and each.meter == meter
                and instance in ("", each.instance)
            ]
            return found if len(found) >= count else []

        what = f"{count} samples of {meter} {instance}"
        return wait_for(enough, seconds, what)


def _seen(sample: Mapping[str, Any]) -> Seen:
    metadata = sample["resource_metadata"].get("perf", {})
    at, since = sample["monotonic_time"], metadata.get("since")
    age = _time(sample["timestamp"]) - _time(since) if since else timedelta()
    return Seen(
        sample["counter_name"],
        sample["counter_type"],
        sample["resource_id"],
        sample["counter_volume"],
        at,
        str(since),
        at - age.total_seconds(),
    )


def _time(text: str) -> datetime:
    time_ = datetime.fromisoformat(text)
    return time_ if time_.tzinfo else time_.replace(tzinfo=UTC)


def series(seen: Iterable[Seen]) -> list[list[Seen]]:
    """Each instance's samples of each meter, in the order of time."""
    by: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for each in sorted(seen, key=lambda each: each.at):
        by[each.instance, each.meter].append(each)
    return list(by.values())


Spans = Mapping[str, list[tuple[float, float]]]
"""By instance: when none of its samples were due, by the monotonic clock."""


def lost(seen: Iterable[Seen], off: Spans, interval: float = 1.0) -> int:
    """How many samples of counters are missing between others.

    Others are not due in every cycle: an idle guest has no coverage.
    """
    return sum(
        _missing(a, b, off.get(a.instance, []), interval)
        for each in series(seen)
        for a, b in itertools.pairwise(each)
        if a.kind == "cumulative"
    )


def _missing(
    a: Seen, b: Seen, off: list[tuple[float, float]], interval: float
) -> int:
    """Cycles between two samples in which there should have been one."""
    steps = round((b.at - a.at) / interval)
    due = (a.at + n * (b.at - a.at) / steps for n in range(1, steps))
    return sum(
        not any(start - SLACK < at < end + SLACK for start, end in off)
        for at in due
    )


def falls(seen: Iterable[Seen]) -> list[tuple[Seen, Seen]]:
    """Where what only grows did not, though its `since` says it went on."""
    return [
        (a, b)
        for each in series(seen)
        for a, b in itertools.pairwise(each)
        if a.kind == "cumulative"
        and a.since == b.since
        and b.volume < a.volume
    ]


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float
    process: tuple[int, int]
    cpu: float
    stolen: float


@dataclass
class Truth:
    """The CPU time of guests' processes, looked at ten times a second."""

    lab: Lab
    guests: list[Guest]
    _moments: dict[str, list[_Moment]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @contextlib.contextmanager
    def watching(self) -> Iterator["Truth"]:
        """Look until the block ends."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.1):
                self._look()

        self._look()
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    def _look(self) -> None:
        for guest in self.guests:
            with contextlib.suppress(LabError, OSError, ValueError):
                self._moments[guest.uuid].append(
                    _moment(self.lab.qemu_pid(guest))
                )

    def used(self, uuid: str, at: float) -> tuple[float, float] | None:
        """CPU time, and what was stolen from the host's CPUs, in ns.

        None where it can't be said, as around a reboot.
        """
        moments = self._moments[uuid]
        after = bisect.bisect(moments, at, key=lambda each: each.at)
        if not 0 < after < len(moments):
            return None
        a, b = moments[after - 1], moments[after]
        if a.process != b.process:
            return None
        part = (at - a.at) / (b.at - a.at)
        return (
            a.cpu + (b.cpu - a.cpu) * part,
            a.stolen + (b.stolen - a.stolen) * part,
        )

    def untrue(self, seen: Iterable[Seen]) -> list[str]:
        """Samples of clocks that differ from what the process has used.

        A clock that is right has counted since the process was started, or
        since they were opened on all of its threads: its every value, and the
        growth between any two, is the CPU time since then.
        """
        per_ns = rates()
        found = []
        for each in seen:
            used = self.used(each.instance, each.at)
            if each.meter not in per_ns or used is None:
                continue
            first = self._moments[each.instance][0]
            before = self.used(each.instance, each.started)
            before = before or (0, first.stolen)
            cpu, taken = used[0] - before[0], used[1] - before[1]
            clock = each.volume / per_ns[each.meter]
            slack = max(0.1 * cpu, 0.15e9)
            if not cpu - slack <= clock <= cpu + slack + taken:
                found.append(
                    f"{each.meter} {clock / 1e9:.2f} s, of {cpu / 1e9:.2f} s"
                )
        return found


def _moment(pid: int) -> _Moment:
    stat = Path(f"/proc/{pid}/stat").read_text()
    at = time.monotonic()
    fields = stat.rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) * TICK
    return _Moment(at, (pid, int(fields[19])), used, stolen() * 1e9)
