# SPDX-License-Identifier: Apache-2.0
"""What happens in each cycle: read, judge, derive."""

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.derived import Derived
from ceilometer_perf.counters.gated import Gated
from ceilometer_perf.counters.own import Own
from ceilometer_perf.counters.plausible import Plausibility
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.trust import Judged, Policy
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.meters import COVERAGE, METERS, RDT_EVENTS, WITHHELD
from ceilometer_perf.reading import (
    Guest,
    Published,
    Reading,
)

#: Of instances that are not read; that one is stopped Nova shows already.
_TOLD = (Verdict.REALTIME, Verdict.STALE)

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
        self,
        libvirt: Gated,
        own: Own | None,
        processes: Processes,
        policy: Policy,
    ) -> None:
        """``own``: None to publish nothing but libvirt's counters."""
        #: The last report.
        self.last = EMPTY
        self._plausibility = Plausibility(policy.coverage_floor * 1e9)
        self._libvirt = libvirt
        self._own = own
        self._processes = processes
        self._derived = Derived()
        self._changes = Changes(log.getLogger(__name__))
        self._lock = threading.Lock()

    def look(self) -> Report:
        """Read every instance once and keep what is right.

        :raises SourceUnavailableError: there is no reading in this cycle.
        """
        with self._lock:
            reading, answers = self._libvirt.look()
            guests = reading.guests
            if self._own is not None:
                answers = {**answers, **self._own.look(guests, answers)}
            answers = {
                uuid: self._plausibility.judged(uuid, answer)
                for uuid, answer in answers.items()
                if not answer.judged.not_running
            }
            report = Report(
                reading=dataclasses.replace(
                    reading,
                    instances={
                        u: each.counters for u, each in answers.items()
                    },
                ),
                published={
                    uuid: self._publish(uuid, guests[uuid], answer)
                    for uuid, answer in answers.items()
                },
                judged={u: each.judged for u, each in answers.items()},
                unread={
                    uuid: _why_unread(guest, reading.failed.get(uuid))
                    for uuid, guest in guests.items()
                    if uuid not in answers
                },
            )
            self._tell(report)
            self._forget_all_but(guests)
            self.last = report
            return report

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
            **({} if judged.share == 1 else {"running": judged.share}),
            **about(guest),
        }
        details = {WITHHELD.key: {"verdicts": withheld}}
        return Published(values, moment, metadata, details)

    def _tell(self, report: Report) -> None:
        for uuid, guest in report.guests.items():
            subject = f"instance {uuid} ({guest.name})"
            if uuid in report.judged:
                text = _summary(report.judged[uuid].judgements)
            elif report.unread[uuid].verdict in _TOLD:
                text = str(report.unread[uuid])
            else:
                continue
            if text:
                self._changes.trouble(uuid, f"{subject}: {text}")
            else:
                self._changes.fine(uuid, f"{subject}: nothing is withheld")

    def _forget_all_but(self, guests: Mapping[str, Guest]) -> None:
        self._libvirt.forget_all_but(guests)
        if self._own is not None:
            self._own.forget_all_but(guests)
        self._plausibility.forget_all_but(guests)
        self._derived.forget_all_but(guests)
        self._changes.forget_all_but(guests)
        self._processes.forget_all_but(
            {"driver", *(guest.name for guest in guests.values())}
        )


def about(guest: Guest) -> dict[str, Any]:
    """Metadata of the instance itself, the same for any source."""
    return {} if guest.slice is None else {"slice": guest.slice}


def _why_unread(guest: Guest, failure: str | None) -> Judgement:
    if failure is not None:
        return verdicts.stale(f"libvirt can't read it: {failure}")
    if guest.id < 0:
        return verdicts.NOT_RUNNING
    if guest.realtime:
        return verdicts.REALTIME
    return verdicts.MEANWHILE


def _summary(judgements: Mapping[str, Judgement]) -> str:
    """What is withheld and why, in one line; empty if nothing is."""
    withheld: dict[Judgement, list[str]] = defaultdict(list)
    for key, judgement in judgements.items():
        if judgement.verdict.withholds:
            withheld[judgement].append(_NAMES[key])
    return "; ".join(
        f"{', '.join(sorted(names))}: {judgement}"
        for judgement, names in withheld.items()
    )
