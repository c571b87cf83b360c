# SPDX-License-Identifier: Apache-2.0
"""Aodh, as a user of the cloud asks it."""

from typing import Any

from tests.cloud.api import api

ALARMS = "/v2/alarms"


class Alarms:
    """One user's."""

    def __init__(self, connection: Any) -> None:
        """``connection``: openstacksdk's."""
        self._api = api(connection, "alarming")

    def create(self, body: dict[str, Any]) -> None:
        """One of a name that no other has."""
        self._api.post(ALARMS, json=body)

    def find(self, name: str) -> dict[str, Any]:
        """All that Aodh knows of the one of that name."""
        named = {"q.field": "name", "q.value": name}
        answer = self._api.get(ALARMS, params=named)
        found: dict[str, Any]
        (found,) = answer.json()
        return found
