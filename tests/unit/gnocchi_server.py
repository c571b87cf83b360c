# SPDX-License-Identifier: Apache-2.0
"""A Gnocchi on loopback that has what it is told; its answers' shapes."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit import serving

METRIC = re.compile(r"\(metric (\S+) ([^\s()]+)\)")
Answered = tuple[int, Any]


@dataclass
class Had:
    """What it has, and what it was asked.

    ``names`` are of instances, by their ids. Metrics are kept in all
    ``spans``, of seconds, but for those in ``kept``. ``values`` are those of
    the last points of each series.
    """

    names: Mapping[str, str | None]
    spans: tuple[float, ...] = (60, 300, 3600)
    kept: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    metrics: str = ".*"
    aggregations: tuple[str, ...] = ("mean", "rate:mean")
    values: tuple[float | None, ...] = (1.0, 2.0, 3.0)
    asked: list[tuple[dict[str, Any], dict[str, str]]] = field(
        default_factory=list
    )

    def policies(self) -> Answered:
        """As many as there are spans."""
        return 200, [
            {
                "name": f"of {span}",
                "definition": [
                    {"granularity": str(timedelta(seconds=span))},
                ],
            }
            for span in self.spans
        ]

    def aggregates(
        self, body: dict[str, Any], parameters: dict[str, str]
    ) -> Answered:
        """A series for each instance or group, or what is wrong."""
        self.asked.append((body, parameters))
        match = METRIC.search(body["operations"])
        assert match
        metric, aggregation = match.groups()
        step = float(parameters["granularity"])
        if not re.fullmatch(self.metrics, metric):
            return refused(404, f"Metric ['{metric}'] does not exist")
        if aggregation not in self.aggregations:
            return refused(404, {
                "cause": "Metrics with unknown aggregation",
                "detail": [["4b8e7318-5094-43ad-93df-f429d6b2d049",
                            aggregation]],
            })  # fmt: skip
        if step not in self.kept.get(metric, self.spans):
            return refused(400, {
                "cause": "Metrics cannot be aggregated",
                "reason": "Granularities are missing",
                "detail": [[metric, aggregation, step]],
            })  # fmt: skip
        end = datetime.fromisoformat(parameters["stop"])
        points = [
            [(end - timedelta(seconds=step * back)).isoformat(), step, value]
            for back, value in enumerate(reversed(self.values), start=1)
        ][::-1]
        if "groupby" in parameters:
            group = {parameters["groupby"]: "somebody"}
            measures = {"measures": {"aggregated": points}}
            return 200, [{"group": group, "measures": measures}]
        return 200, {
            "measures": {
                each: {metric: {aggregation: points}} for each in self.names
            },
            "references": [
                {"id": each, "display_name": name, "host": "h1",
                 "project_id": None, "metrics": {}}
                for each, name in self.names.items()
            ],
        }  # fmt: skip


def refused(code: int, description: Any) -> Answered:
    return code, {"code": code, "title": "No", "description": description}


@contextlib.contextmanager
def having(had: Had) -> Iterator[str]:
    """Where one listens that has this."""

    class Handler(serving.Handler):
        def do_GET(self) -> None:
            assert self.path == "/v1/archive_policy"
            self._answer(*had.policies())

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            assert parts.path == "/v1/aggregates"
            # It has errors as JSON for who asks for that alone.
            assert self.headers["Accept"] == "application/json"
            body = json.loads(
                self.rfile.read(int(self.headers["Content-Length"]))
            )
            query = parse_qs(parts.query)
            parameters = {name: values[0] for name, values in query.items()}
            self._answer(*had.aggregates(body, parameters))

        def _answer(self, status: int, answer: Any) -> None:
            self.reply(status, json.dumps(answer).encode())

    with serving.serving(Handler) as url:
        yield url
