# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus with our rules, that scrapes one agent."""

import contextlib
import socket
import subprocess
from pathlib import Path
from typing import Any

import fixtures
import requests
import yaml

from tests.functional.agent import wait_for

ETC = Path(__file__).parents[2] / "etc" / "prometheus"
SAMPLE = ETC / "prometheus.yml"
RULES = ETC / "ceilometer-perf.rules.yml"
LOOPBACK = "127.0.0.1"
TIMEOUT = 10  # seconds


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


class Prometheus(fixtures.Fixture):
    """It has the sample configuration, but asks every second.

    ``window`` stands in for the rules' minutes. ``host`` is what it calls
    the agent's host.
    """

    def __init__(
        self,
        folder: Path,
        *,
        window: str = "1m",
        host: str = "compute-1",
    ) -> None:
        super().__init__()
        self._folder = folder
        self._window = window
        self._host = host
        self.exporter = f"{LOOPBACK}:{free_port()}"
        self._address = f"{LOOPBACK}:{free_port()}"
        self.url = f"http://{self._address}"

    def _setUp(self) -> None:  # noqa: N802
        self._folder.mkdir()
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        rules = RULES.read_text()
        for window in ("[10m]", "[2m]"):
            rules = rules.replace(window, f"[{self._window}]")
        (self._folder / RULES.name).write_text(rules)
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self._address}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("w"),
        )
        self.addCleanup(self._stop)
        wait_for(self._ready, 30, "Prometheus answers")

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
        config["global"] = {"evaluation_interval": "1s"}
        (job,) = config["scrape_configs"]
        job["scrape_interval"] = "1s"
        job["static_configs"] = [{"targets": [self.exporter]}]
        # The host's name is that of the address; there's but one here.
        for relabel in job["relabel_configs"]:
            relabel["replacement"] = self._host
        return config

    def _ready(self) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/-/ready", timeout=TIMEOUT).ok
        return False

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The series of an instant query; AssertionError if it is wrong."""
        result: list[dict[str, Any]] = self._ask("query", query=promql)[
            "result"
        ]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its state; none before all were evaluated."""
        groups = self._ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        evaluated = all(rule["health"] != "unknown" for rule in rules)
        return rules if evaluated else []

    def _ask(self, what: str, **parameters: str) -> Any:
        answer = requests.get(
            f"{self.url}/api/v1/{what}", params=parameters, timeout=TIMEOUT
        ).json()
        assert answer["status"] == "success", answer
        return answer["data"]
