# SPDX-License-Identifier: Apache-2.0
"""What is published of each instance of this host, and why the rest isn't.

Uses the agent's options and code, but starts without the agent's memory: what
the agent has observed over earlier cycles is in its log only.
"""

import dataclasses
from collections import ChainMap
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.monitor import Report
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.guest import errors, nova_metadata, xml
from ceilometer_perf.guest.elements import perf
from ceilometer_perf.host import probe
from ceilometer_perf.host.inventory import Domain
from ceilometer_perf.host.probe import virt
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.meters import METERS, PERF_KEYS, RDT, Meter
from ceilometer_perf.neighbours.waiting import WaitingReport
from ceilometer_perf.rdt.look import RdtReport
from ceilometer_perf.reading import Published, SourceUnavailableError
from ceilometer_perf.wiring import Parts

COUNTERS = tuple(meter for meter in METERS if meter.key in PERF_KEYS)

_PREFIX = "perf."

Lacks = Mapping[str, str]
"""Why an event can't be counted on this host, by its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """An instance, and a judgement on each counter by its meter's name."""

    id: str
    #: Nova's display name where it is known, libvirt's name where not.
    name: str
    state: str
    realtime: bool
    coverage: float | None
    verdicts: Mapping[str, Judgement]
    #: The same for L3 occupancy and memory bandwidth.
    rdt: Mapping[str, Judgement]
    #: Domains that Nova did not create are not published.
    is_nova: bool
    #: The perf events in its XML.
    events: tuple[str, ...]
    #: By the meters' keys, as they would be published.
    values: Mapping[str, float]
    since: datetime | None
    #: Who counts: ``libvirt`` or ``own``; None if nobody does.
    source: str | None = None
    #: Whether its QEMU's process is; None if there is none to see.
    qemu_seen: bool | None = None

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """All that there are to say, each once."""
        unseen = (verdicts.NO_PROCESS,) if self.qemu_seen is False else ()
        found = (*self.verdicts.values(), *self.rdt.values(), *unseen)
        return tuple(dict.fromkeys(found))

    @property
    def is_running(self) -> bool:
        """Whether it could be counted at all."""
        return not any(
            judgement.verdict is Verdict.NOT_RUNNING
            for judgement in self.verdicts.values()
        )

    @property
    def is_withheld(self) -> bool:
        """Whether there is a counter that should be published, and isn't.

        A realtime instance is left alone because its operator wants it so.
        """
        return any(
            each.verdict.withholds and each.verdict is not Verdict.REALTIME
            for each in self.judgements
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """All instances at one moment of the monotonic clock."""

    taken_at: float
    instances: tuple[Instance, ...]
    #: Why this is an earlier status: libvirt's error. None if it is current.
    stale: str | None = None


class Watch:
    """Reads the status repeatedly, and copes with libvirt outages."""

    def __init__(self, parts: Parts, lacks: Lacks) -> None:
        self._parts = parts
        self._processes = Processes(Path(parts.settings.qemu_run_dir))
        self._lacks = {
            f"{_PREFIX}{event}": verdicts.host_lacks(why)
            for event, why in lacks.items()
        }
        self._last: Status | None = None

    def look(self) -> Status:
        """The status now; if libvirt fails, the last one, marked stale.

        :raises SourceUnavailableError: libvirt fails at the first reading.
        """
        try:
            domains = self._parts.inventory.refresh()
            report = self._parts.look()
            rdt = self._parts.look_at_rdt(report)
            waiting = self._parts.look_at_waiting(report)
        except SourceUnavailableError as exc:
            if self._last is None:
                raise
            return _stale(self._last, str(exc))
        self._last = Status(
            report.taken_at,
            tuple(
                sorted(
                    (
                        self._instance(domain, report, rdt, waiting)
                        for domain in domains.values()
                    ),
                    key=lambda instance: (instance.name, instance.id),
                )
            ),
        )
        return self._last

    def _instance(
        self, domain: Domain, report: Report, rdt: RdtReport,
        waiting: WaitingReport,
    ) -> Instance:  # fmt: skip
        judged = report.judged.get(domain.uuid)
        published = report.published.get(domain.uuid)
        others = (r.published.get(domain.uuid) for r in (rdt, waiting))
        name, events = _read(domain.xml)
        return Instance(
            id=domain.uuid,
            name=name or domain.name,
            state=domain.state_text,
            realtime=domain.realtime,
            coverage=judged.coverage if judged else None,
            verdicts=self._verdicts(domain.uuid, report),
            rdt=_rdt_verdicts(domain.uuid, report, rdt),
            is_nova=name is not None,
            events=events,
            values=ChainMap(
                *(dict(each.values) for each in (published, *others) if each)
            ),
            since=judged.since if judged else None,
            source=_source(published),
            qemu_seen=self._sees(domain),
        )

    def _sees(self, domain: Domain) -> bool | None:
        if domain.id < 0 or virt.is_remote(self._parts.connection.uri):
            return None
        return self._processes.guest(domain.name, domain.uuid) is not None

    def _verdicts(self, uuid: str, report: Report) -> Mapping[str, Judgement]:
        judged = report.judged.get(uuid)
        if judged is None:
            return dict.fromkeys(_names(COUNTERS), _why_unread(uuid, report))
        own = _source(report.published[uuid]) == "own"
        absent = verdicts.NOT_AN_OWN_EVENT if own else verdicts.NOT_ENABLED
        return {
            meter.name: judged.judgements.get(
                meter.key, self._lacks.get(meter.key, absent)
            )
            for meter in COUNTERS
        }


def _source(published: Published | None) -> str | None:
    """None where nothing is counted."""
    if published is None or not published.values:
        return None
    return str(published.metadata["source"])


def _names(meters: Iterable[Meter]) -> list[str]:
    return [meter.name for meter in meters]


def _why_unread(uuid: str, report: Report) -> Judgement:
    return report.unread.get(uuid, verdicts.MEANWHILE)


def _rdt_verdicts(
    uuid: str, report: Report, rdt: RdtReport
) -> Mapping[str, Judgement]:
    judged = rdt.judged.get(uuid)
    if judged is None:
        return dict.fromkeys(_names(RDT), _why_unread(uuid, report))
    return {meter.name: judged[meter.key] for meter in RDT}


def host_lacks(uri: str) -> Lacks:
    """The events that this host can't count; none if ``uri`` is another's."""
    if virt.is_remote(uri):
        return {}
    events = (meter.key.removeprefix(_PREFIX) for meter in COUNTERS)
    return {
        verdict.event.name: verdict.reason or "it can't be opened"
        for verdict in probe.cannot_work(events)
    }


def _read(text: str) -> tuple[str | None, tuple[str, ...]]:
    """Nova's name of a domain, and its perf events."""
    try:
        root = xml.parse(text).getroot()
        return nova_metadata.display_name(text), perf.enabled(root)
    except errors.DomainXMLError:
        return None, ()


def _stale(status: Status, why: str) -> Status:
    """The same instances, with every value withheld as stale."""
    judgement = verdicts.stale(why)
    return dataclasses.replace(
        status,
        stale=why,
        instances=tuple(
            dataclasses.replace(
                instance,
                values={},
                coverage=None,
                verdicts=dict.fromkeys(instance.verdicts, judgement),
                rdt=dict.fromkeys(instance.rdt, judgement),
            )
            for instance in status.instances
        ),
    )
