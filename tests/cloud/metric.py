# SPDX-License-Identifier: Apache-2.0
"""Gnocchi, as a user of the cloud asks it."""

from collections.abc import Mapping
from typing import Any

from tests.cloud.api import api

#: Seconds; a polling cycle takes less, however busy the machine is.
SPAN = 10
#: As doc/source/alarms-and-bills.rst has it, with shorter spans: there is no
#: rate where the span before has no value. Those of a second show each one.
POLICY: Mapping[str, Any] = {
    "name": "ceilometer-perf",
    "aggregation_methods": ["mean", "max", "rate:mean", "rate:sum"],
    "definition": [
        {"granularity": f"{seconds}s", "timespan": "2h"}
        for seconds in (1, SPAN)
    ],
}

Measures = list[tuple[str, float]]
"""By the beginning of their span, which is in ISO 8601; in order."""


class Metric:
    """What one user may see."""

    def __init__(self, connection: Any) -> None:
        """``connection``: openstacksdk's."""
        self._api = api(connection, "metric")

    def get(self, path: str) -> Any | None:
        """What it says; None of what it does not know."""
        answer = self._api.get(f"/v1/{path}", raise_exc=False)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json()

    def add_policy(self) -> None:
        """Let metrics be made by ours."""
        self._api.post("/v1/archive_policy", json=POLICY)

    def instance(self, uuid: str) -> Any | None:
        """An instance's resource, None if there is no sample of it."""
        return self.get(f"resource/instance/{uuid}")

    def measures(
        self, metric: str, aggregation: str = "mean", span: int = 1
    ) -> Measures:
        """Of spans of so many seconds, by the metric's id."""
        rows = self.get(
            f"metric/{metric}/measures?aggregation={aggregation}"
            f"&granularity={span}"
        )
        return [(at, value) for at, _, value in rows or ()]
