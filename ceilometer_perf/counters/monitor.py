# SPDX-License-Identifier: Apache-2.0
"""What goes on from cycle to cycle: read, judge, derive."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.derived import Derived
from ceilometer_perf.counters.source import Source
from ceilometer_perf.counters.trust import Evidence, Gate, Judged, Policy
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.processes import Process, Processes
from ceilometer_perf.meters import COVERAGE, METERS, RDT_EVENTS, WITHHELD
from ceilometer_perf.reading import Guest, Published, Reading

_NAMES = {meter.key: meter.name for meter in METERS} | RDT_EVENTS


@dataclass(frozen=True, slots=True)
class Report:
    """One reading of this host after the gate, by instance UUID.

    ``published`` and ``judged`` have the instances that were read, and
    ``unread`` says why each of the others was not.
    """

    reading: Reading
    published: Mapping[str, Published]
    judged: Mapping[str, Judged]
    unread: Mapping[str, Judgement]

    @property
    def taken_at(self) -> float:
        """Seconds of the monotonic clock."""
        return self.reading.taken_at

    @property
    def guests(self) -> Mapping[str, Guest]:
        """Every instance of the host."""
        return self.reading.guests


EMPTY = Report(Reading(0.0, 0.0, {}, {}), {}, {}, {})


class Monitor:
    """The one of this process. Safe to call from several threads."""

    def __init__(
        self, source: Source, processes: Processes, policy: Policy
    ) -> None:
        self._source = source
        self._processes = processes
        self._gate = Gate(policy)
        self._derived = Derived()
        self._changes = Changes(log.getLogger(__name__))
        self._lock = threading.Lock()

    def look(self) -> Report:
        """Read every instance once and keep what is right.

        :raises SourceUnavailableError: there is no reading this time.
        """
        with self._lock:
            reading = self._source.read()
            driver = self._processes.driver()
            evidence = {
                uuid: self._evidence(reading, uuid, driver)
                for uuid in reading.instances
            }
            judged = {
                uuid: self._gate.judge(uuid, reading.instances[uuid], each)
                for uuid, each in evidence.items()
                if not each.started_meanwhile
            }
            report = Report(
                reading=reading,
                published={
                    uuid: self._publish(uuid, reading, each)
                    for uuid, each in judged.items()
                },
                judged=judged,
                unread={
                    uuid: _why_unread(guest)
                    for uuid, guest in reading.guests.items()
                    if uuid not in judged
                },
            )
            self._tell(report)
            self._forget_all_but(reading.guests)
            return report

    def _evidence(
        self, reading: Reading, uuid: str, driver: Process | None
    ) -> Evidence:
        guest = reading.guests[uuid]
        process = self._processes.guest(guest.name)
        return Evidence(
            boot=guest.id,
            process=process,
            driver=driver,
            booted_at=self._processes.booted_at(guest.name),
            now=datetime.now(UTC),
            uptime=time.clock_gettime(time.CLOCK_BOOTTIME),
            late=time.monotonic() - reading.asked_at,
        )

    def _publish(
        self, uuid: str, reading: Reading, judged: Judged
    ) -> Published:
        trusted = judged.trusted(reading.instances[uuid])
        values: dict[str, float] = dict(trusted)
        values.update(
            self._derived.compute(
                uuid, reading.taken_at, judged.since, trusted
            )
        )
        if judged.coverage is not None:
            values[COVERAGE.key] = round(judged.coverage, 4)
        withheld = judged.withheld()
        if judged.judgements:
            values[WITHHELD.key] = sum(withheld.values())
        metadata = {
            "source": "perf",
            "since": judged.since.isoformat(),
            "coverage": values.get(COVERAGE.key),
            "flags": judged.flags(),
            **about(reading.guests[uuid]),
        }
        details = {WITHHELD.key: {"verdicts": withheld}}
        return Published(values, reading.moment, metadata, details)

    def _tell(self, report: Report) -> None:
        for uuid, guest in report.guests.items():
            subject = f"instance {uuid} ({guest.name})"
            if uuid in report.judged:
                text = _summary(report.judged[uuid].judgements)
            elif report.unread[uuid].verdict is Verdict.REALTIME:
                text = str(report.unread[uuid])
            else:
                continue  # stopped: that is known without us
            if text:
                self._changes.trouble(uuid, f"{subject}: {text}")
            else:
                self._changes.fine(uuid, f"{subject}: nothing is withheld")

    def _forget_all_but(self, guests: Mapping[str, Guest]) -> None:
        self._gate.forget_all_but(guests, self._processes.runs)
        self._derived.forget_all_but(guests)
        self._changes.forget_all_but(guests)
        self._processes.forget_all_but(
            {"driver", *(guest.name for guest in guests.values())}
        )


def about(guest: Guest) -> dict[str, Any]:
    """What samples of any source say of the instance itself."""
    return {} if guest.slice is None else {"slice": guest.slice}


def _why_unread(guest: Guest) -> Judgement:
    if guest.id < 0:
        return verdicts.NOT_RUNNING
    if guest.realtime:
        return verdicts.REALTIME
    return verdicts.STARTED_MEANWHILE


def _summary(judgements: Mapping[str, Judgement]) -> str:
    """What is withheld and why, in one line; nothing where nothing is."""
    withheld: dict[Judgement, list[str]] = defaultdict(list)
    for key, judgement in judgements.items():
        if judgement is not verdicts.OK:
            withheld[judgement].append(_NAMES[key])
    return "; ".join(
        f"{', '.join(sorted(names))}: {judgement}"
        for judgement, names in withheld.items()
    )
