# SPDX-License-Identifier: Apache-2.0
"""Gnocchi: its API and its metricd, on PostgreSQL and a folder."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from requests.auth import HTTPBasicAuth

from tests.chain.postgresql import PostgreSQL
from tests.chain.server import LOOPBACK, Server, free_ports, run

BIN = Path(sys.executable).parent
API = Path(__file__).with_name("gnocchi_api.py")
ADMIN = "admin"  # whom gnocchi's "basic" mode takes for one
TIMEOUT = 30  # seconds


class Gnocchi:
    """Anybody who says that he is the administrator is."""

    def __init__(self, folder: Path, indexer: PostgreSQL) -> None:
        self._folder = folder
        self._indexer = indexer
        self._config = folder / "gnocchi.conf"
        (port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{port}"
        self._session = requests.Session()
        self._session.auth = HTTPBasicAuth(ADMIN, "")
        self.api = Server(
            "Gnocchi's API",
            # -P: the folder has another gnocchi.
            [sys.executable, "-P", API, str(port), self._config],
            folder / "api.log",
            ready=self._ready,
        )
        self.metricd = Server(
            "gnocchi-metricd",
            [BIN / "gnocchi-metricd", "--config-file", self._config],
            folder / "metricd.log",
            ready=lambda: True,
        )

    @property
    def storage(self) -> Path:
        """Where the measures are."""
        return self._folder / "storage"

    def start(self) -> None:
        """Make its tables and begin; `wait` returns when it serves."""
        self.storage.mkdir(parents=True)
        self._config.write_text(
            f"""\
[indexer]
url = {self._indexer.url}
[storage]
driver = file
file_basepath = {self.storage}
[incoming]
driver = file
file_basepath = {self.storage}
[api]
auth_mode = basic
[metricd]
workers = 1
metric_processing_delay = 1
"""
        )
        upgrade = [BIN / "gnocchi-upgrade", "--config-file", self._config]
        upgrade += ["--sacks-number", "2"]
        run("gnocchi-upgrade", upgrade)
        self.api.start()
        self.metricd.start()

    def wait(self) -> None:
        """Return when it serves."""
        self.api.wait()

    def stop(self) -> None:
        """End it. Again is fine."""
        self.metricd.stop()
        self.api.stop()

    def get(self, path: str, **parameters: Any) -> Any:
        """What the API says."""
        answer = self._session.get(
            f"{self.url}/v1/{path}", params=parameters, timeout=TIMEOUT
        )
        answer.raise_for_status()
        return answer.json()

    def metrics(self, uuid: str) -> dict[str, str]:
        """The ids of an instance's metrics by name; none of an unknown."""
        resources = self.get("resource/generic", limit=1000)
        found = (r["metrics"] for r in resources if r["id"] == uuid)
        return next(found, {})

    def measures(
        self, metric: str, aggregation: str, span: int
    ) -> dict[float, float]:
        """By the beginning of each span, in seconds since 1970.

        A span is of so many seconds, one that the archive policy has.
        """
        measures = self.get(
            f"metric/{metric}/measures",
            aggregation=aggregation,
            granularity=span,
        )
        return {
            datetime.fromisoformat(at).timestamp(): value
            for at, _, value in measures
        }

    def backlog(self) -> int:
        """How many measures metricd has yet to work on."""
        status = self.get("status", details="false")
        return int(status["storage"]["summary"]["measures"])

    def _ready(self) -> bool:
        try:
            return bool(self.get("capabilities"))
        except requests.RequestException:
            return False
