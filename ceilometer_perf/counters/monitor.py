# SPDX-License-Identifier: Apache-2.0
"""What happens in each cycle: read, judge, derive."""

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.derived import Derived
from ceilometer_perf.counters.gated import Answer, Gated
from ceilometer_perf.counters.source import Source
from ceilometer_perf.counters.trust import Judged, Policy
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.meters import COVERAGE, METERS, RDT_EVENTS, WITHHELD
from ceilometer_perf.reading import (
    Guest,
    Published,
    Reading,
    SourceUnavailableError,
)

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


@dataclass(frozen=True, slots=True)
class _Series:
    """Samples of one instance that can be compared.

    ``began`` is when the counters did, and ``since`` the same, or when they
    took the place of another source's.
    """

    source: str
    began: datetime
    since: datetime


class Monitor:
    """The one of this process. Safe to call from several threads."""

    def __init__(
        self, sources: Iterable[Source], processes: Processes, policy: Policy
    ) -> None:
        """``sources`` are in order of preference; there is at least one."""
        self._sources = [Gated(each, processes, policy) for each in sources]
        self._processes = processes
        self._series: dict[str, _Series] = {}
        self._derived = Derived()
        self._changes = Changes(log.getLogger(__name__))
        self._lock = threading.Lock()

    def look(self) -> Report:
        """Read every instance once and keep what is right.

        :raises SourceUnavailableError: there is no reading in this cycle.
        """
        with self._lock:
            readings, answers = self._ask()
            guests = {
                uuid: guest
                for reading in reversed(readings)
                for uuid, guest in reading.guests.items()
            }
            chosen = {
                uuid: self._dated(uuid, answer)
                for uuid, answer in _chosen(answers).items()
            }
            report = Report(
                reading=dataclasses.replace(
                    readings[0],
                    guests=guests,
                    instances={u: each.counters for u, each in chosen.items()},
                ),
                published={
                    uuid: self._publish(uuid, guests[uuid], answer)
                    for uuid, answer in chosen.items()
                },
                judged={u: each.judged for u, each in chosen.items()},
                unread={
                    uuid: _why_unread(guest)
                    for uuid, guest in guests.items()
                    if uuid not in chosen
                },
            )
            self._tell(report)
            self._forget_all_but(guests)
            return report

    def _ask(self) -> tuple[list[Reading], list[Mapping[str, Answer]]]:
        """The sources' readings; for one that fails, the reason."""
        readings, answers = [], []
        failed: dict[str, SourceUnavailableError] = {}
        for source in self._sources:
            try:
                reading, found = source.look()
            except SourceUnavailableError as exc:
                failed[source.name] = exc
                continue
            readings.append(reading)
            answers.append(found)
            self._changes.fine(source.name, f"{source.name} is read again")
        if not readings:
            raise next(iter(failed.values()))
        for name, why in failed.items():
            self._changes.trouble(name, f"{name} is not read: {why}")
        return readings, answers

    def _dated(self, uuid: str, answer: Answer) -> Answer:
        """With a new ``since`` if the source changed."""
        before, began = self._series.get(uuid), answer.judged.since
        if before is None or before.began != began:
            since = began
        elif before.source != answer.source:
            since = answer.moment.at
        else:
            since = before.since
        self._series[uuid] = _Series(answer.source, began, since)
        judged = dataclasses.replace(answer.judged, since=since)
        return dataclasses.replace(answer, judged=judged)

    def _publish(self, uuid: str, guest: Guest, answer: Answer) -> Published:
        judged, moment = answer.judged, answer.moment
        values: dict[str, float] = dict(answer.trusted)
        values.update(
            self._derived.compute(
                uuid, moment.taken_at, judged.since, answer.trusted
            )
        )
        if judged.coverage is not None:
            values[COVERAGE.key] = round(judged.coverage, 4)
        withheld = judged.withheld()
        if judged.judgements:
            values[WITHHELD.key] = sum(withheld.values())
        metadata = {
            "source": answer.source,
            "since": judged.since.isoformat(),
            "coverage": values.get(COVERAGE.key),
            "flags": judged.flags(),
            **about(guest),
        }
        details = {WITHHELD.key: {"verdicts": withheld}}
        return Published(values, moment, metadata, details)

    def _tell(self, report: Report) -> None:
        for uuid, guest in report.guests.items():
            subject = f"instance {uuid} ({guest.name})"
            if uuid in report.judged:
                text = _summary(report.judged[uuid].judgements)
            elif report.unread[uuid].verdict is Verdict.REALTIME:
                text = str(report.unread[uuid])
            else:
                continue  # stopped: Nova shows that already
            if text:
                self._changes.trouble(uuid, f"{subject}: {text}")
            else:
                self._changes.fine(uuid, f"{subject}: nothing is withheld")

    def _forget_all_but(self, guests: Mapping[str, Guest]) -> None:
        for source in self._sources:
            source.forget_all_but(guests)
        self._series = {u: s for u, s in self._series.items() if u in guests}
        self._derived.forget_all_but(guests)
        names = (source.name for source in self._sources)
        self._changes.forget_all_but({*guests, *names})
        self._processes.forget_all_but(
            {"driver", *(guest.name for guest in guests.values())}
        )


def _chosen(answers: Iterable[Mapping[str, Answer]]) -> Mapping[str, Answer]:
    """The first answer that has something to publish, or the first one."""
    chosen: dict[str, Answer] = {}
    for each in answers:
        for uuid, answer in each.items():
            if uuid not in chosen or (
                answer.trusted and not chosen[uuid].trusted
            ):
                chosen[uuid] = answer
    return chosen


def about(guest: Guest) -> dict[str, Any]:
    """Metadata of the instance itself, the same for any source."""
    return {} if guest.slice is None else {"slice": guest.slice}


def _why_unread(guest: Guest) -> Judgement:
    if guest.id < 0:
        return verdicts.NOT_RUNNING
    if guest.realtime:
        return verdicts.REALTIME
    return verdicts.STARTED_MEANWHILE


def _summary(judgements: Mapping[str, Judgement]) -> str:
    """What is withheld and why, in one line; empty if nothing is."""
    withheld: dict[Judgement, list[str]] = defaultdict(list)
    for key, judgement in judgements.items():
        if judgement is not verdicts.OK:
            withheld[judgement].append(_NAMES[key])
    return "; ".join(
        f"{', '.join(sorted(names))}: {judgement}"
        for judgement, names in withheld.items()
    )
