# SPDX-License-Identifier: Apache-2.0
"""Prometheus, which scrapes the agent's own exporter."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.chain.server import LOOPBACK, Server, free_ports
from tests.lab.requirements import find

ETC = Path(__file__).parents[2] / "etc" / "prometheus"
SAMPLE = ETC / "prometheus.yml"
RULES = ETC / "ceilometer-perf.rules.yml"
PACKAGE = "prometheus"
TIMEOUT = 10  # seconds
WHOLE = "1d"  # longer than any chain


@dataclass(frozen=True)
class Scraped:
    """A value, and when it was asked for, in seconds since 1970.

    The answer was there so many ``seconds`` later.
    """

    at: float
    value: float
    seconds: float = 0.0


class Prometheus:
    """Has the sample configuration and our rules, but asks every second."""

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, str],
        *,
        window: str = "",
        port: int = 0,
    ) -> None:
        """``targets``: by what the host is called, the agent's HOST:PORT.

        ``window`` stands in for the rules' minutes; ``port``: any if none.
        """
        self._folder = folder
        self._targets = targets
        self._window = window
        port = port or free_ports(1)[0]
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
        rules = RULES.read_text()
        if self._window:
            rules = re.sub(r"\[(10|2)m\]", f"[{self._window}]", rules)
        (self._folder / RULES.name).write_text(rules)
        (self._folder / SAMPLE.name).write_text(yaml.safe_dump(self._config()))
        self.server.start()

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
        config["global"] = {"evaluation_interval": "1s"}
        (job,) = config["scrape_configs"]
        job["scrape_interval"] = "1s"
        job["static_configs"] = [
            {"targets": [target], "labels": {"__host": host}}
            for host, target in self._targets.items()
        ]
        # The host's name is that of the address, which says nothing here.
        for relabel in job["relabel_configs"]:
            relabel |= {"source_labels": ["__host"], "regex": "(.+)"}
        return config

    def query(self, query: str, **options: Any) -> list[dict[str, Any]]:
        """The series that an instant query gives, as the API has them.

        ``options``: such as ``time``, of the API's.
        """
        answer = self._ask("query", query=query, **options)
        result: list[dict[str, Any]] = answer["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its state; none before all were evaluated."""
        groups = self._ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        evaluated = all(rule["health"] != "unknown" for rule in rules)
        return rules if evaluated else []

    def _ask(self, what: str, **parameters: Any) -> Any:
        answer = requests.get(
            f"{self.url}/api/v1/{what}", params=parameters, timeout=TIMEOUT
        )
        answer.raise_for_status()
        return answer.json()["data"]

    def scraped(
        self, meter: str, took: Mapping[float, float]
    ) -> dict[str, list[Scraped]]:
        """All values of a meter, by instance UUID, oldest first.

        ``took`` are `durations`, asked for once for all meters.
        """
        return {
            series["metric"]["resource"]: [
                Scraped(at, float(value), took[at])
                for at, value in series["values"]
                if not math.isnan(float(value))
            ]
            for series in self.query(f"{metric(meter)}[{WHOLE}]")
        }

    def durations(self) -> dict[float, float]:
        """Of each scrape that succeeded, by when it began; in seconds."""
        took, up = (
            dict(series["values"])
            for what in ("scrape_duration_seconds", "up")
            for series in self.query(f"{what}[{WHOLE}]")
        )
        return {at: float(took[at]) for at in took if up.get(at) == "1"}

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=1).ok
        except requests.ConnectionError:
            return False


def metric(meter: str) -> str:
    """What the agent's exporter calls it."""
    return f"ceilometer_{meter.replace('.', '_')}"
