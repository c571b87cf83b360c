# SPDX-License-Identifier: Apache-2.0
"""Watcher, as an administrator asks it."""

from typing import Any

from tests.cloud.api import api

STRATEGY = "ceilometer_perf_neighbours"


class Watcher:
    """Audits with our strategy."""

    def __init__(self, connection: Any) -> None:
        """``connection``: openstacksdk's."""
        self._api = api(connection, "infra-optim")

    def audit(self, **parameters: Any) -> str:
        """Begin one, whose plan is carried out; its UUID."""
        body = {
            "audit_type": "ONESHOT",
            "goal": "noisy_neighbor",
            "strategy": STRATEGY,
            "parameters": parameters,
            "auto_trigger": True,
        }
        answer = self._api.post("/v1/audits", json=body)
        return str(answer.json()["uuid"])

    def plan(self, audit: str) -> str:
        """The state of what it came to; empty if it did not yet."""
        plans = self._list("action_plans", audit)
        return str(plans[0]["state"]) if plans else ""

    def actions(self, audit: str) -> list[dict[str, Any]]:
        """Their parameters, as Watcher has them."""
        found = self._list("actions/detail", audit)
        return [each["input_parameters"] for each in found]

    def _list(self, what: str, audit: str) -> list[dict[str, Any]]:
        answer = self._api.get(f"/v1/{what}", params={"audit_uuid": audit})
        name = what.partition("/")[0]
        found: list[dict[str, Any]] = answer.json()[name]
        return found
