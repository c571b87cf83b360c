# SPDX-License-Identifier: Apache-2.0
"""Aodh, as a user of the cloud asks it."""

from typing import Any


class Alarms:
    """One user's."""

    def __init__(self, connection: Any) -> None:
        """``connection``: openstacksdk's."""
        self._session = connection.session
        endpoint = self._session.get_endpoint(
            service_type="alarming", interface="public"
        )
        self._url = f"{endpoint}/v2/alarms"

    def create(self, body: dict[str, Any]) -> None:
        """One of a name that no other has."""
        self._session.post(self._url, json=body)

    def find(self, name: str) -> dict[str, Any]:
        """All that Aodh knows of the one of that name."""
        named = {"q.field": "name", "q.value": name}
        answer = self._session.get(self._url, params=named)
        found: dict[str, Any]
        (found,) = answer.json()
        return found
