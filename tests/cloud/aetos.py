# SPDX-License-Identifier: Apache-2.0
"""Prometheus, as a user of the cloud may ask it."""

from typing import Any

from tests.cloud.api import api


class Aetos:
    """What one user may see."""

    def __init__(self, connection: Any) -> None:
        """``connection``: openstacksdk's."""
        self._api = api(connection, "metric-storage")

    def query(self, query: str, **options: Any) -> list[dict[str, Any]]:
        """The series that an instant query gives, as Prometheus has them."""
        answer = self._api.get(
            "/api/v1/query", params={"query": query, **options}
        )
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result
