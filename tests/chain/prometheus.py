# SPDX-License-Identifier: Apache-2.0
"""Prometheus, which scrapes the agent's own exporter."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.chain.server import LOOPBACK, Server, free_ports
from tests.lab.requirements import find

PACKAGE = "prometheus"
JOB = "ceilometer"
TIMEOUT = 10  # seconds
WHOLE = "1d"  # longer than any chain


@dataclass(frozen=True)
class Scraped:
    """A value, and when it was scraped, in seconds since 1970."""

    at: float
    value: float


class Prometheus:
    """Scrapes ``target``, a HOST:PORT, every second."""

    def __init__(
        self, folder: Path, target: str, *, rules: tuple[Path, ...] = ()
    ) -> None:
        """``rules``: files of recording and alerting rules."""
        self._folder = folder
        self._target = target
        self._rules = rules
        (port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{port}"
        self.server = Server(
            "Prometheus",
            [find("prometheus", PACKAGE),
             f"--config.file={folder / 'prometheus.yml'}",
             f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address={LOOPBACK}:{port}"],
            folder / "log",
            ready=self._ready,
        )  # fmt: skip

    def start(self) -> None:
        """Begin; `server.wait` returns when it serves."""
        self._folder.mkdir()
        scrape = {
            "job_name": JOB,
            "static_configs": [{"targets": [self._target]}],
        }
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rule) for rule in self._rules],
            "scrape_configs": [scrape],
        }
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.server.start()

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series that an instant query gives, as the API has them."""
        answer = requests.get(
            f"{self.url}/api/v1/query",
            params={"query": query},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def scraped(self, meter: str) -> dict[str, list[Scraped]]:
        """All values of a meter, by instance UUID, oldest first."""
        return {
            series["metric"]["resource"]: [
                Scraped(at, float(value))
                for at, value in series["values"]
                if not math.isnan(float(value))
            ]
            for series in self.query(f"{metric(meter)}[{WHOLE}]")
        }

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=1).ok
        except requests.ConnectionError:
            return False


def metric(meter: str) -> str:
    """What the agent's exporter calls it."""
    return f"ceilometer_{meter.replace('.', '_')}"
