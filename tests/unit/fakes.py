# SPDX-License-Identifier: Apache-2.0
"""Stand-ins at the border of a room, for unit tests only."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from ceilometer.compute.discovery import NovaLikeServer
from oslo_config import cfg

from ceilometer_perf.monitor import Report
from ceilometer_perf.reading import (
    Counters,
    Published,
    Reading,
    SourceUnavailableError,
)

T = TypeVar("T")


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


class FakeMonitor(_Answers[Report]):
    def look(self) -> Report:
        return self._next()


class FakeSource(_Answers[Reading]):
    def read(self) -> Reading:
        return self._next()


def report(taken_at: float, instances: Mapping[str, Counters]) -> Report:
    """A report of instances that are all right."""
    published = {
        uuid: Published(counters, {"source": "perf"})
        for uuid, counters in instances.items()
    }
    return Report(taken_at, {}, published, {}, {})


@dataclass(frozen=True)
class FakeGuest:
    name: str
    id: int = 1
    realtime: bool = False


def unavailable(why: str = "libvirt is down") -> SourceUnavailableError:
    return SourceUnavailableError(why)


class FakeVirConnect:
    """The part of virConnect that the host room uses."""

    def __init__(
        self, stats: dict[str, dict[str, int]], version: int = 9_000_000
    ) -> None:
        self.stats = stats
        self.version = version
        self.alive = True
        self.calls: list[tuple[int, int]] = []

    def getLibVersion(self) -> int:  # noqa: N802
        return self.version

    def isAlive(self) -> bool:  # noqa: N802
        return self.alive

    def getAllDomainStats(  # noqa: N802
        self, stats: int, flags: int
    ) -> list[tuple[Any, dict[str, int]]]:
        self.calls.append((stats, flags))
        return [
            (SimpleNamespace(UUIDString=lambda uuid=uuid: uuid), counters)
            for uuid, counters in self.stats.items()
        ]


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
    from ceilometer import service

    conf: cfg.ConfigOpts = service.prepare_service(
        argv=["test"], config_files=[]
    )
    for name, value in libvirt.items():
        conf.set_override(name, value)
    return conf
