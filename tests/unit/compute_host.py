# SPDX-License-Identifier: Apache-2.0
"""A compute host that is made up: libvirt, kernel and configuration."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import libvirt
import pytest

from ceilometer_perf.doctor import status
from ceilometer_perf.host import connection, probe, processes, qemus
from ceilometer_perf.meters import METERS, PERF_KEYS, RDT
from tests.unit.fakes import FakeVirConnect, FakeVirDomain, libvirt_error
from tests.unit.probe_cases import FakeKernel

EVENTS = tuple(key.removeprefix("perf.") for key in sorted(PERF_KEYS))
NAMES = [meter.name for meter in METERS if meter.key in PERF_KEYS]
RDT_NAMES = [meter.name for meter in RDT]

NOVA = "http://openstack.org/xmlns/libvirt/nova/1."
REALTIME = (
    "<cputune><vcpusched vcpus='0' scheduler='fifo' priority='1'/></cputune>"
)

POLLING = """\
sources:
    - name: perf
      interval: 60
      meters: [perf.hw.*, perf.sw.*, perf.coverage, "perf.derived.*"]
"""
PIPELINE = """\
sources:
    - name: all
      meters: ["*"]
      sinks: [gnocchi]
sinks:
    - name: gnocchi
      publishers: ["gnocchi://"]
"""
GNOCCHI = "resources:\n  - resource_type: instance\n    metrics:\n" + "".join(
    f"      {meter.name}:\n" for meter in METERS
)


def domain(
    name: str,
    events: Iterable[str] = EVENTS,
    *,
    nova: str | None = "1",
    extra: str = "",
    id: int = 1,  # noqa: A002
    state: int = libvirt.VIR_DOMAIN_RUNNING,
) -> FakeVirDomain:
    """A domain; ``nova`` is the minor version of its metadata."""
    events = tuple(events)
    metadata = (
        f"<metadata><n:instance xmlns:n='{NOVA}{nova}'><n:name>{name}"
        "</n:name></n:instance></metadata>"
    )
    perf = "".join(f"<event name='{e}' enabled='yes'/>" for e in events)
    return FakeVirDomain(
        f"uuid-{name}",
        f"instance-{name}",
        xml=f"<domain>{metadata if nova else ''}<perf>{perf}</perf>{extra}"
        "</domain>",
        perf={f"perf.{event}": 5 for event in events},
        id=id,
        state=state,
    )


class SeenProcesses(processes.Processes):
    """Sees the QEMU of each instance, unless told otherwise."""

    unseen: ClassVar[set[str]] = set()

    def guest(self, name: str, uuid: str) -> processes.Process | None:
        return None if name in self.unseen else processes.Process(1, 1, 1, 0)


class ComputeHost:
    """Its domains, and the files that its agent and Nova read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = monkeypatch
        self.conn = FakeVirConnect()
        self.down = False
        monkeypatch.setattr(libvirt, "openReadOnly", self._open)
        monkeypatch.setattr(connection, "loop_runs", lambda: True)
        monkeypatch.setattr(probe, "Kernel", lambda: FakeKernel((1,)))
        #: Domains whose QEMU status can't see.
        self.unseen: set[str] = set()
        monkeypatch.setattr(SeenProcesses, "unseen", self.unseen)
        monkeypatch.setattr(status, "Processes", SeenProcesses)
        # Whatever runs where the tests do.
        monkeypatch.setattr(processes, "any_runs", lambda _command: False)
        self.write("polling.yaml", POLLING)
        self.write("pipeline.yaml", PIPELINE)
        self.write("gnocchi_resources.yaml", GNOCCHI)
        self.nova_conf("task_clock, page_faults")
        self.conf()

    def has(self, *domains: FakeVirDomain) -> None:
        for each in domains:
            each.conn = self.conn
        self.conn.domains = list(domains)

    def stop_libvirt(self, *_: object) -> None:
        self.conn.alive = False
        self.down = True

    def start_libvirt(self, *_: object) -> None:
        domains = self.conn.domains
        self.conn, self.down = FakeVirConnect(), False
        self.has(*domains)

    def conf(self, perf: str = "", default: str = "") -> None:
        # No two hosts share a connection: the folder is in the options.
        self.write(
            "ceilometer.conf",
            f"[DEFAULT]\nlibvirt_uri = test://{self.folder}\n{default}\n"
            f"[perf]\nqemu_run_dir = {self.folder}\ncounters = libvirt\n"
            f"resctrl_path = {self.folder}/resctrl\n{perf}\n",
        )

    def runs(self, name: str) -> None:
        """This process is the QEMU of the instance."""
        self._patch.setattr(qemus, "is_qemu_of", lambda *_: True)
        self.write(f"instance-{name}.pid", f"{os.getpid()}\n")

    def nova_conf(self, events: str) -> None:
        self.write("nova.conf", f"[libvirt]\nenabled_perf_events = {events}\n")

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    @property
    def options(self) -> tuple[str, ...]:
        return "--config-file", f"{self.folder}/ceilometer.conf"

    def _open(self, _uri: str) -> FakeVirConnect:
        if self.down:
            raise libvirt_error()
        return self.conn


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ComputeHost:
    return ComputeHost(tmp_path, monkeypatch)
