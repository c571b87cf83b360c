# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's two agents, each a process of its own."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.chain.rabbitmq import takes_samples
from tests.chain.server import LOOPBACK, Server, free_ports, listens, run
from tests.lab import Lab

BIN = Path(sys.executable).parent
ETC = Path(__file__).parents[2] / "etc" / "ceilometer"
RECORDER = Path(__file__).with_name("recorder")
HOST = "chain"

# As it is shipped: nothing that the broker took may be lost with it.
MESSAGING = ETC / "messaging.conf"
TIMEOUT = 60  # seconds for a request to Gnocchi
# Who waits for a broker looks for it each second, not after ever longer.
IMPATIENT = "[oslo_messaging_rabbit]\nrabbit_interval_max = 1\n"


@dataclass(frozen=True)
class Sent:
    """A sample that the agent sent, and when, in seconds since 1970.

    It exports a sample once it has sent it, and before it sends another, which
    was ``until`` then.
    """

    sample: dict[str, Any]
    at: float
    until: float = math.inf


Series = Mapping[tuple[str, str], Sequence[Sent]]
"""By instance UUID and meter, oldest first."""


def by_series(sent: Iterable[Sent]) -> Series:
    """The samples in their series."""
    series: dict[tuple[str, str], list[Sent]] = {}
    for each in sent:
        key = each.sample["resource_id"], each.sample["counter_name"]
        series.setdefault(key, []).append(each)
    return series


class Polling:
    """ceilometer-polling with our pollsters and its own exporter.

    All meters are one source, so that all of a cycle's samples are of one
    reading.
    """

    def __init__(
        self, folder: Path, lab: Lab, uri: str, transport: str, interval: int
    ) -> None:
        self._folder = folder
        self._config = folder / "ceilometer.conf"
        self._record = folder / "sent"
        self._messages: list[dict[str, Any]] = []
        self._read = 0  # bytes of the record, which is ASCII
        self.log = folder / "ceilometer.log"
        (port,) = free_ports(1)
        self.exporter = f"{LOOPBACK}:{port}"
        folder.mkdir()
        polling = yaml.safe_load((ETC / "polling.yaml").read_text())
        meters = [m for s in polling["sources"] for m in s["meters"]]
        (folder / "polling.yaml").write_text(
            yaml.safe_dump(
                {"sources": [
                    {"name": "perf", "interval": interval, "meters": meters}
                ]}
            )
        )  # fmt: skip
        self._config.write_text(
            f"""\
[DEFAULT]
host = {HOST}
libvirt_uri = {uri}
log_file = {self.log}
pollsters_definitions_dirs = {folder}/pollsters.d
transport_url = {transport}
[polling]
cfg_file = {folder}/polling.yaml
enable_prometheus_exporter = true
prometheus_listen_addresses = {self.exporter}
[publisher_notifier]
telemetry_driver = recorder
[perf]
coverage_floor = 0.2
qemu_run_dir = {lab.run_dir}/qemu
resctrl_path = {lab.resctrl_path}
neighbours_file = {folder}/neighbours.json
privsep_helper = {BIN}/privsep-helper --config-file {self._config}
{IMPATIENT}"""
        )
        self.server = Server(
            "ceilometer-polling",
            [BIN / "ceilometer-polling", "--polling-namespaces", "compute",
             "--config-file", self._config, "--config-file", MESSAGING],
            folder / "out",
            ready=lambda: listens(port),
            environment={
                "PYTHONPATH": str(RECORDER),
                "RECORD": str(self._record),
            },
        )  # fmt: skip

    def sent(self) -> list[Sent]:
        """All that the broker has confirmed, oldest first."""
        if not self._record.exists():
            return []
        # Asked for many times a second: each line is parsed once.
        with self._record.open() as record:
            record.seek(self._read)
            for line in record.read().split("\n")[:-1]:
                self._messages.append(json.loads(line))
                self._read += len(line) + 1
        times = [message["sent_at"] for message in self._messages]
        return [
            Sent(sample, at, until)
            for message, at, until in zip(
                self._messages, times, [*times[1:], math.inf], strict=True
            )
            for sample in message["samples"]
        ]


class Notification:
    """ceilometer-agent-notification, which publishes to Gnocchi."""

    def __init__(
        self, folder: Path, transport: str, gnocchi: str, resources: Path
    ) -> None:
        """``resources``: the gnocchi_resources.yaml to use."""
        self.config = folder / "ceilometer.conf"
        self.log = folder / "ceilometer.log"
        folder.mkdir()
        pipeline = yaml.safe_load((ETC / "pipeline.yaml").read_text())
        for sink in pipeline["sinks"]:
            sink["publishers"] = [self.publisher(resources)]
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
        self.config.write_text(
            f"""\
[DEFAULT]
host = {HOST}
log_file = {self.log}
pipeline_cfg_file = {folder}/pipeline.yaml
transport_url = {transport}
[notification]
pipelines = meter
[service_credentials]
auth_type = gnocchi-basic
user = admin
endpoint = {gnocchi}
{IMPATIENT}"""
        )
        self.server = Server(
            "ceilometer-agent-notification",
            [BIN / "ceilometer-agent-notification",
             "--config-file", self.config, "--config-file", MESSAGING],
            folder / "out",
            ready=lambda: takes_samples(transport),
        )  # fmt: skip

    @staticmethod
    def publisher(resources: Path) -> str:
        """The URL of what publishes to Gnocchi, by such a file."""
        # Its own project's samples it knows by Keystone, which isn't here.
        options = urlencode(
            {
                "enable_filter_project": "false",
                "resources_definition_file": str(resources),
                # It drops what Gnocchi takes longer for, by default 6 s: on a
                # slow machine 64 threads that begin at once.
                "timeout": str(TIMEOUT),
            },
            safe="/",
        )
        return f"gnocchi://?{options}"

    @staticmethod
    def map_meters(
        path: Path, rate: str = "ceilometer-high-rate",
        gauge: str = "ceilometer-high",
    ) -> None:  # fmt: skip
        """Write core's gnocchi_resources.yaml with our meters in it.

        They get policies that have spans of a second, as some of core's do:
        nobody wants to wait for the five minutes of the others.
        """
        command = [BIN / "ceilometer-perf", "gnocchi-resources"]
        command += ["--rate-policy", rate, "--gauge-policy", gauge]
        path.write_text(run("gnocchi-resources", command))

    def upgrade(self) -> None:
        """Have Gnocchi know Ceilometer's types of resources."""
        run(
            "ceilometer-upgrade",
            [BIN / "ceilometer-upgrade", "--config-file", self.config,
             "--log-file", self.log.with_name("upgrade.log")],
        )  # fmt: skip


def said(log: Path) -> list[str]:
    """The warnings and errors of an agent, without time and process id."""
    lines = log.read_text().splitlines() if log.exists() else []
    levels = (" WARNING ", " ERROR ", " CRITICAL ")
    return [
        line.split(level, 1)[1]
        for line in lines
        for level in levels
        if level in line
    ]
