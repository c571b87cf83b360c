# SPDX-License-Identifier: Apache-2.0
"""Who slows whom down, from what the other meters of a cycle say.

Nothing is read of instances but where they run. What a gate withholds is
missing here as well, with its reason.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ceilometer_perf.counters.monitor import Report, about
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.host.topology import Topology
from ceilometer_perf.meters import (
    BANDWIDTH_TOTAL,
    CACHE_MPKI,
    COVERAGE,
    CULPRIT,
    IPC,
    L3_CACHE,
    VICTIM,
    WITHHELD,
    Meter,
)
from ceilometer_perf.neighbours.judge import Found, Interference, Judge
from ceilometer_perf.neighbours.kept import Kept
from ceilometer_perf.neighbours.observation import Frame, Observation
from ceilometer_perf.neighbours.waiting import Vcpus, WaitingReport
from ceilometer_perf.rdt.look import RdtReport
from ceilometer_perf.reading import SHORTEST, Moment, Published

#: What is published where no counter is.
_ABOUT_COUNTERS = {WITHHELD.key, COVERAGE.key}

_UNSEEN = "its process can't be seen"
_NEW = "there is no second reading yet"
_NOT_ASKED = "it is not known by L3 cache"


@dataclass(frozen=True, slots=True)
class NeighbourReport:
    """What may be published, by instance UUID."""

    published: Mapping[str, Published] = field(default_factory=dict)


class Neighbours:
    """The one of this process. Safe to call from several threads."""

    def __init__(self, topology: Topology, kept: Kept | None) -> None:
        """``kept``: None to forget everything with this process."""
        self._topology = topology
        self._kept = kept
        self._judge = Judge(topology.siblings)
        self._last: tuple[float, NeighbourReport] | None = None
        self._lock = threading.Lock()

    def look(
        self, report: Report, rdt: RdtReport, waiting: WaitingReport
    ) -> NeighbourReport:
        """Judge the instances of these reports.

        A judgement is as old as the counters that it is about.
        """
        with self._lock:
            moment = report.reading.moment
            if self._last is None and self._kept is not None:
                self._kept.restore(self._judge)
            # Polling sources with different intervals sometimes look at
            # nearly the same time: that is no other cycle.
            if (
                self._last is not None
                and moment.taken_at - self._last[0] < SHORTEST
            ):
                return self._last[1]
            seen = {
                uuid: self._observe(uuid, report, rdt, waiting.vcpus.get(uuid))
                for uuid, guest in report.guests.items()
                if guest.id >= 0
            }
            found = self._judge.look(Frame(moment.taken_at, seen))
            if self._kept is not None:
                names = {u: report.guests[u].name for u in seen}
                self._kept.keep(self._judge, found, names, moment)
            published = NeighbourReport(
                {uuid: _publish(uuid, report, found, moment) for uuid in seen}
            )
            self._last = moment.taken_at, published
            return published

    def _observe(
        self, uuid: str, report: Report, rdt: RdtReport, vcpus: Vcpus | None
    ) -> Observation:
        if vcpus is None:
            missing = dict.fromkeys(Observation.__slots__, _UNSEEN)
            return Observation(process=None, missing=missing)
        counted, used = report.published.get(uuid), rdt.published.get(uuid)
        if counted is not None and counted.values.keys() <= _ABOUT_COUNTERS:
            counted = None  # what can't be opened begins in each cycle
        values = counted.values if counted else {}
        ran_on = self._topology.ran_on(vcpus.threads)
        allowed = self._topology.allowed(vcpus.threads)
        ipc = values.get(IPC.key)
        return Observation(
            process=vcpus.process,
            counting=(_counting(counted), _counting(used)),
            vcpus=len(vcpus.threads),
            cpus=vcpus.used,
            waited=vcpus.waited,
            cpi=1 / ipc if ipc else None,
            mpki=values.get(CACHE_MPKI.key),
            occupancy=self._banks(used, L3_CACHE),
            bandwidth=self._banks(used, BANDWIDTH_TOTAL),
            ran_on=ran_on,
            allowed=allowed,
            domains=self._topology.domains(ran_on),
            reach=self._topology.domains(allowed),
            missing={
                "cpus": _NEW,
                "waited": _NEW,
                "cpi": _why(uuid, report, "cpu_cycles", "instructions"),
                "mpki": _why(uuid, report, "cache_misses", "instructions"),
                "occupancy": _why_rdt(uuid, rdt, L3_CACHE),
                "bandwidth": _why_rdt(uuid, rdt, BANDWIDTH_TOTAL),
            },
        )

    def _banks(
        self, used: Published | None, meter: Meter
    ) -> Mapping[int, float] | None:
        """What it has of each L3 cache; None if that is not known."""
        if used is None or meter.key not in used.values:
            return None
        banks = used.details.get(meter.key, {}).get("banks")
        if banks is not None:
            return {int(bank): number for bank, number in banks.items()}
        known = set(self._topology.l3.values())
        return (
            {known.pop(): used.values[meter.key]} if len(known) == 1 else None
        )


def _counting(published: Published | None) -> tuple[Any, ...] | None:
    """Another one when a counter has restarted, or is another's."""
    if published is None:
        return None
    return published.metadata.get("source"), published.metadata.get("since")


def _why(uuid: str, report: Report, *events: str) -> str:
    """Why what is computed of these events is missing."""
    if uuid in report.unread:
        return _brief(report.unread[uuid])
    judged = report.judged.get(uuid)
    for event in events:
        judgement = judged.judgements.get(f"perf.{event}") if judged else None
        if judgement is None:
            return f"{event} is not counted"
        if judgement.reason:
            return f"{event}: {_brief(judgement)}"
    return _NEW


def _why_rdt(uuid: str, rdt: RdtReport, meter: Meter) -> str:
    judgement = rdt.judged.get(uuid, {}).get(meter.key)
    if judgement is None or not judgement.reason:
        return _NOT_ASKED
    return _brief(judgement)


def _brief(judgement: Judgement) -> str:
    """Without the remedy, which ``status`` shows."""
    return f"{judgement.verdict.value}: {judgement.reason}"


def _publish(
    uuid: str, report: Report, found: Found, moment: Moment
) -> Published:
    by = [each for each in found.interferences if each.victim == uuid]
    of = [each for each in found.interferences if each.culprit == uuid]
    worst = max(by, key=lambda each: each.loss, default=None)
    surest = max(of, key=lambda each: each.correlation, default=None)
    values: dict[str, float] = {
        CULPRIT.key: round(surest.correlation, 4) if surest else 0.0
    }
    if uuid in found.judged:
        values[VICTIM.key] = round(worst.loss, 4) if worst else 0.0
    untold = found.untold.get(uuid)
    return Published(
        values,
        moment,
        {"source": "neighbours", **about(report.guests[uuid])},
        {
            VICTIM.key: {
                **(_evidence(worst, worst.culprit) if worst else {}),
                **({"untold": dict(untold)} if untold else {}),
            },
            CULPRIT.key: _evidence(surest, surest.victim) if surest else {},
        },
    )


def _evidence(each: Interference, partner: str) -> Mapping[str, Any]:
    return {
        "cause": each.cause,
        "partner": partner,
        "evidence": each.numbers(),
    }
