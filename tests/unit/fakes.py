# SPDX-License-Identifier: Apache-2.0
"""Stand-ins at the border of a room, for unit tests only."""

import threading
from types import SimpleNamespace
from typing import Any

from ceilometer.compute.discovery import NovaLikeServer
from oslo_config import cfg

from ceilometer_perf.reading import Reading, SourceUnavailableError


class FakeSource:
    """Answers with what it was given, and counts how often it was asked."""

    def __init__(self, *answers: Reading | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self._lock = threading.Lock()

    def read(self) -> Reading:
        with self._lock:
            self.asked += 1
            answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


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
