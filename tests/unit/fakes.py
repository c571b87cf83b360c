# SPDX-License-Identifier: Apache-2.0
"""Stand-ins at the border of a room, for unit tests only."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import libvirt
from ceilometer.compute.discovery import NovaLikeServer
from oslo_config import cfg

from ceilometer_perf.counters.gated import Gated
from ceilometer_perf.counters.monitor import Report
from ceilometer_perf.counters.trust import Policy
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.neighbours.look import NeighbourReport
from ceilometer_perf.neighbours.waiting import WaitingReport
from ceilometer_perf.rdt.look import RdtReport
from ceilometer_perf.reading import (
    Counters,
    Guest,
    Moment,
    Published,
    Reading,
    SourceUnavailableError,
)
from ceilometer_perf.wiring import Misconfigured

T = TypeVar("T")

READ_AT = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
POLLING = Path(__file__).parents[2] / "etc/ceilometer/polling.yaml"


class _Answers(Generic[T]):
    """Answers with what it was given, and counts how often it was asked."""

    def __init__(self, *answers: T | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self._lock = threading.Lock()

    def _next(self) -> T:
        with self._lock:
            self.asked += 1
            answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeParts(_Answers[Report], Misconfigured):
    """``rdt`` and the others: what it says besides of counters."""

    rdt: RdtReport | Exception = RdtReport()
    rdt_asked = 0
    waiting: WaitingReport | Exception = WaitingReport()
    waiting_asked = 0
    neighbours: NeighbourReport | Exception = NeighbourReport()
    neighbours_asked = 0

    def look(self) -> Report:
        return self._next()

    def look_at_rdt(self, report: Report) -> RdtReport:
        self.rdt_asked += 1
        if isinstance(self.rdt, Exception):
            raise self.rdt
        return self.rdt

    def look_at_waiting(self, report: Report) -> WaitingReport:
        self.waiting_asked += 1
        if isinstance(self.waiting, Exception):
            raise self.waiting
        return self.waiting

    def look_at_neighbours(
        self, report: Report, rdt: RdtReport, waiting: WaitingReport
    ) -> NeighbourReport:
        self.neighbours_asked += 1
        if isinstance(self.neighbours, Exception):
            raise self.neighbours
        return self.neighbours


class FakeSource(_Answers[Reading]):
    def read(self) -> Reading:
        return self._next()


def gated(source: FakeSource, processes: Processes) -> Gated:
    """That source behind a gate of the default policy."""
    return Gated(source, processes, Policy())  # type: ignore[arg-type]


def report(taken_at: float, instances: Mapping[str, Counters]) -> Report:
    """A report of instances that are all right."""
    published = {
        uuid: Published(
            counters, Moment(taken_at, READ_AT), {"source": "libvirt"}
        )
        for uuid, counters in instances.items()
    }
    return Report(
        Reading(taken_at, taken_at, {}, {}, READ_AT), published, {}, {}
    )


def rdt_report(
    taken_at: float, instances: Mapping[str, Mapping[str, float]]
) -> RdtReport:
    """The same for L3 occupancy and bandwidth, in two banks."""
    return RdtReport(
        {
            uuid: Published(
                values,
                Moment(taken_at, READ_AT),
                {"source": "resctrl"},
                {k: {"banks": {"0": v, "4": 0}} for k, v in values.items()},
            )
            for uuid, values in instances.items()
        },
    )


def guest(name: str, **more: Any) -> Guest:
    """One that runs, and is of the usual kind."""
    usual = {"id": 1, "xml": "<domain/>", "realtime": False, "slice": None}
    return Guest(name=name, **{**usual, **more})


def unavailable(why: str = "libvirt is down") -> SourceUnavailableError:
    return SourceUnavailableError(why)


def libvirt_error(
    code: int = libvirt.VIR_ERR_INTERNAL_ERROR,
    domain: int = libvirt.VIR_FROM_NONE,
    text: str = "it says so",
) -> Exception:
    """An error as libvirt's binding raises it; ``domain`` is libvirt's word
    for the part of it that fails."""
    libvirt.virResetLastError()  # else that is what it says
    error = libvirt.libvirtError(text)
    error.err = (
        code, domain, f"{text} ({code})", 2, None, None, None, 0, 0,
    )  # fmt: skip
    return cast("Exception", error)


@dataclass
class FakeVirDomain:
    """A domain as libvirt holds it; counts how often its XML is read."""

    uuid: str
    domain_name: str = "instance-1"
    id: int = 1
    state: int = libvirt.VIR_DOMAIN_RUNNING
    reason: int = 0
    xml: str | Exception = "<domain/>"
    definition: str | None = None  # the same, unless it has one of its own
    perf: dict[str, Any] = field(default_factory=dict)
    read: int = 0
    asked: int = 0  # for its definition, too
    conn: "FakeVirConnect | None" = None

    def UUIDString(self) -> str:  # noqa: N802
        return self.uuid

    def name(self) -> str:
        return self.domain_name

    def ID(self) -> int:  # noqa: N802
        return self.id

    def connect(self) -> "FakeVirConnect | None":
        return self.conn

    def XMLDesc(self, flags: int) -> str:  # noqa: N802
        self.asked += 1
        if flags == libvirt.VIR_DOMAIN_XML_INACTIVE and self.definition:
            return self.definition
        assert flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)
        self.read += flags == 0
        if isinstance(self.xml, Exception):
            raise self.xml
        return self.xml


CAPABILITIES = """
<capabilities><host><cache>
  <bank id="0" level="3" type="both" size="32" unit="MiB" cpus="0-7"/>
</cache></host></capabilities>
"""


class FakeVirConnect:
    """The part of virConnect that the host room uses."""

    def __init__(
        self, *domains: FakeVirDomain, version: int = 9_000_000
    ) -> None:
        self.domains = list(domains)
        self.version = version
        self.alive = True
        self.behind_proxy = False
        self.closed = False
        self.calls: list[tuple[int, int]] = []
        self.keepalive: tuple[int, int] | None = None
        self.callbacks: dict[int, Callable[..., None]] = {}
        self.unknown_events: set[int] = set()
        self._o: object = object()

    def getLibVersion(self) -> int:  # noqa: N802
        return self.version

    def getVersion(self) -> int:  # noqa: N802
        return 7_002_000

    def getHostname(self) -> str:  # noqa: N802
        return "compute-1"

    def getCapabilities(self) -> str:  # noqa: N802
        return CAPABILITIES

    def isAlive(self) -> bool:  # noqa: N802
        return self.alive

    def close(self) -> None:
        self.closed = True

    def setKeepAlive(self, interval: int, count: int) -> None:  # noqa: N802
        self.keepalive = (interval, count)

    def domainEventRegisterAny(  # noqa: N802
        self, domain: None, event: int, callback: Any, opaque: None
    ) -> int:
        if event in self.unknown_events:
            raise libvirt_error(libvirt.VIR_ERR_INVALID_ARG)
        self.callbacks[event] = callback
        return event

    def domainEventDeregisterAny(self, number: int) -> None:  # noqa: N802
        del self.callbacks[number]
        if not self.alive:
            raise libvirt_error()

    def tell(self, event: int, domain: FakeVirDomain, *details: Any) -> None:
        """Libvirt says that this has happened."""
        self.callbacks[event](self, domain, *details, None)

    def getAllDomainStats(  # noqa: N802
        self, stats: int, flags: int
    ) -> list[tuple[FakeVirDomain, dict[str, int]]]:
        self.calls.append((stats, flags))
        self._answer()
        if stats == libvirt.VIR_DOMAIN_STATS_STATE:
            return [
                (d, {"state.state": d.state, "state.reason": d.reason})
                for d in self.domains
            ]
        return [(d, d.perf) for d in self.domains if d.id >= 0]

    def domainListGetStats(  # noqa: N802
        self, domains: list[FakeVirDomain], stats: int, flags: int
    ) -> list[tuple[FakeVirDomain, dict[str, int]]]:
        self.calls.append((stats, flags))
        self._answer()
        return [(domain, domain.perf) for domain in domains]

    def _answer(self) -> None:
        """Fail if there is nobody to answer, as the daemons' clients do."""
        if self.behind_proxy:
            raise libvirt_error(
                domain=libvirt.VIR_FROM_RPC, text="client socket is closed"
            )
        if not self.alive:
            raise libvirt_error()

    def lookupByUUIDString(self, uuid: str) -> FakeVirDomain:  # noqa: N802
        return next(d for d in self.domains if d.uuid == uuid)


def instance(uuid: str = "6695eb01-f6a4-4304-b9aa-97f2502e193f") -> Any:
    """An instance as core's discovery from libvirt metadata makes it."""
    return NovaLikeServer(
        **{
            "id": uuid,
            "name": "web-1",
            "flavor": {
                "id": "42",
                "name": "m1.tiny",
                "vcpus": 1,
                "ram": 512,
                "disk": 1,
                "ephemeral": 0,
                "swap": 0,
                "extra_specs": {"hw:pmu": "true"},
            },
            "image": {"id": "9a9a9a9a"},
            "image_meta": {"base_image_ref": "9a9a9a9a"},
            "os_type": "hvm",
            "architecture": "x86_64",
            "OS-EXT-SRV-ATTR:instance_name": "instance-00000001",
            "OS-EXT-SRV-ATTR:host": "compute-1",
            "OS-EXT-STS:vm_state": "running",
            "tenant_id": "project-1",
            "user_id": "user-1",
            "hostId": "abc",
            "status": "active",
            "metadata": {"metering.server_group": "group-1"},
        }
    )


def agent_conf(**libvirt: str) -> cfg.ConfigOpts:
    """The agent's configuration, with its options registered."""
    from tests.lab.ceilometer import configuration

    conf = configuration()
    for name, value in libvirt.items():
        conf.set_override(name, value)
    conf.set_override("cfg_file", str(POLLING), group="polling")
    return conf
