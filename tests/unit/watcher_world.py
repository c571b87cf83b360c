# SPDX-License-Identifier: Apache-2.0
"""What an audit of Watcher's sees, and the process that runs one.

Watcher's options and Nova's have the same names, and can't be in one process.
"""

import contextlib
import importlib
import json
import logging
import multiprocessing
import re
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit import serving


@dataclass(frozen=True)
class Host:
    vcpus: int = 8
    memory: int = 8192
    disk: int = 100
    state: str = "up"
    status: str = "enabled"
    aggregate: str = "everything"


@dataclass(frozen=True)
class Guest:
    """An instance. Its scores are of the last spans of five minutes."""

    host: str
    victim: tuple[float, ...] = ()
    culprit: tuple[float, ...] = ()
    vcpus: int = 2
    memory: int = 2048
    disk: int = 10
    state: str = "active"
    project: str = "6f70656e-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class World:
    hosts: Mapping[str, Host]
    #: By UUID.
    guests: Mapping[str, Guest]
    #: How old the last measure is, in seconds.
    age: int = 0


@dataclass(frozen=True)
class Asked:
    """An audit."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    scope: tuple[Mapping[str, Any], ...] = ()
    datasource: str = "gnocchi"


@dataclass(frozen=True)
class Planned:
    """What came of it: instances with the hosts that they leave and reach."""

    state: str
    migrations: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    error: str = ""


SPAN = 300  # seconds
#: For our strategy; its spans begin at the minutes 0, 5, 10 ...
NOW = datetime(2026, 11, 27, 12, 2, 30, tzinfo=UTC)
MEASURES = re.compile(
    r"/v1/resource/generic/([\w-]+)/metric/perf\.neighbour\.(\w+)/measures"
)
QUERY = re.compile(r"ceilometer_perf_neighbour_(\w+)\[")


class Server:
    """Gnocchi and Prometheus on loopback, with the scores of a world."""

    def __init__(self) -> None:
        self.url = ""
        self.world = World({}, {})
        self.broken = False
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, Any]:
        parts = urlsplit(path)
        if self.broken and parts.path == "/api/v1/query":
            return 500, {}
        query = {name: v[0] for name, v in parse_qs(parts.query).items()}
        self.asked.append(query.get("query", parts.path))
        if match := MEASURES.fullmatch(parts.path):
            return self._measures(match[1], match[2], query)
        if parts.path == "/api/v1/targets":
            return 200, {"status": "success", "data": {"activeTargets": []}}
        assert parts.path == "/api/v1/query"
        return 200, {"status": "success", "data": {
            "resultType": "vector", "result": self._vector(query["query"]),
        }}  # fmt: skip

    def _scores(self, uuid: str, role: str) -> tuple[float, ...]:
        return tuple(getattr(self.world.guests[uuid], role))

    def _measures(
        self, uuid: str, role: str, query: Mapping[str, str]
    ) -> tuple[int, Any]:
        """As Gnocchi: from the start of the span that ``start`` is in."""
        scores = self._scores(uuid, role)
        if not scores or float(query["granularity"]) != SPAN:
            return 404, {"code": 404, "title": "Not Found"}
        start = datetime.fromisoformat(query["start"]).timestamp()
        last = (NOW.timestamp() - self.world.age) // SPAN
        measures = [
            ((last - back) * SPAN, score)
            for back, score in enumerate(reversed(scores))
        ]
        return 200, [
            [datetime.fromtimestamp(at, UTC).isoformat(), SPAN, score]
            for at, score in reversed(measures)
            if at >= start // SPAN * SPAN
        ]

    def _vector(self, query: str) -> list[Any]:
        """What Prometheus makes of the query: another test shows that."""
        roles = set(QUERY.findall(query))
        (role,) = roles
        fresh = self.world.age < 120
        return [
            {
                "metric": {"resource": uuid},
                "value": [0, str(min(self._scores(uuid, role)))],
            }
            for uuid in self.world.guests
            if fresh and self._scores(uuid, role)
        ]


@contextlib.contextmanager
def server() -> Iterator[Server]:
    made = Server()

    class Handler(serving.Handler):
        def do_GET(self) -> None:
            status, body = made.answer(self.path)
            self.reply(status, json.dumps(body).encode())

    with serving.serving(Handler) as made.url:
        yield made


class Watcher:
    """A process with Watcher's decision engine, which has no services."""

    def __init__(self, folder: str, url: str) -> None:
        self._pool = ProcessPoolExecutor(
            1,
            multiprocessing.get_context("spawn"),
            _call,
            ("start", folder, url),
        )

    def audit(self, world: World, asked: Asked) -> Planned:
        made = self._pool.submit(_call, "audit", world, asked).result()
        assert isinstance(made, Planned)
        return made

    def call(self, name: str, *arguments: Any) -> Any:
        return self._pool.submit(_call, name, *arguments).result()

    def stop(self) -> None:
        self._pool.shutdown()


def _call(name: str, *arguments: Any) -> Any:
    """In that process.

    Exceptions are told as text: those of Watcher's would be imported where
    they arrive.
    """
    logging.captureWarnings(True)
    try:
        module = importlib.import_module("tests.unit.watcher_process")
        return getattr(module, name)(*arguments)
    except Exception:
        raise AssertionError(traceback.format_exc()) from None
