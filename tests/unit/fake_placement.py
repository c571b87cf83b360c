# SPDX-License-Identifier: Apache-2.0
"""Placement in memory, as far as slices use it: generations and all."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from ceilometer_perf.slices.placement.client import Client
from ceilometer_perf.slices.placement.errors import ConflictError

GENERATION = "resource_provider_generation"
ASKED = r"(\w+)=([^&]*)"


@dataclasses.dataclass
class Provider:
    """A resource provider."""

    name: str
    parent: str | None
    generation: int = 0
    inventories: dict[str, Any] = dataclasses.field(default_factory=dict)
    traits: set[str] = dataclasses.field(default_factory=set)

    def change(self, body: Mapping[str, Any]) -> None:
        """Another generation, if it is this one that was read."""
        if body[GENERATION] != self.generation:
            raise ConflictError("placement.concurrent_update")
        self.generation += 1


class FakePlacement:
    """Takes the calls of :class:`Client`; ``allocations`` are by consumer.

    ``before`` is called with each request that changes something.
    """

    def __init__(self, node: str, name: str) -> None:
        self.providers = {node: Provider(name, None)}
        self.classes: set[str] = set()
        self.traits: set[str] = set()
        self.allocations: dict[str, dict[str, dict[str, int]]] = {}
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.changes: list[str] = []

    @property
    def client(self) -> Client:
        """In place of one that sends requests."""
        return cast("Client", self)

    def get(self, path: str, key: str) -> Any:
        """What an answer has under a key."""
        return self._answer(path)[key]

    def _answer(self, path: str) -> dict[str, Any]:
        resource, _, query = path.removeprefix("/").partition("?")
        kind, *rest = resource.split("/")
        if kind == "allocations":
            held = self.allocations.get(rest[0], {})
            return {kind: {uuid: {"resources": r} for uuid, r in held.items()}}
        if kind == "resource_classes":
            return {kind: [{"name": name} for name in self.classes]}
        if kind == "traits":
            return {kind: sorted(self.traits)}
        if not rest:
            return {kind: self._listed(dict(re.findall(ASKED, query)))}
        provider = self.providers[rest[0]]
        users = (c for c, held in self.allocations.items() if rest[0] in held)
        answers: dict[str, Any] = {
            "inventories": dict(provider.inventories),
            "traits": sorted(provider.traits),
            "allocations": {consumer: {} for consumer in users},
        }
        return {rest[1]: answers[rest[1]]}

    def _listed(self, asked: Mapping[str, str]) -> list[dict[str, Any]]:
        return [
            {
                "uuid": uuid,
                "name": each.name,
                "parent_provider_uuid": each.parent,
                "generation": each.generation,
            }
            for uuid, each in self.providers.items()
            if asked.get("name", each.name) == each.name
            and asked.get("in_tree", uuid) in (uuid, each.parent)
            and ("required" not in asked or asked["required"] in each.traits)
        ]

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Change something."""
        self.before(method, path)
        kind, *rest = path.removeprefix("/").split("/")
        self.changes.append(f"{method} {path}")
        if kind != "resource_providers":
            {"resource_classes": self.classes, "traits": self.traits}[
                kind
            ].add(rest[0])
            return {}
        if method == "DELETE":
            del self.providers[rest[0]]
            return {}
        assert body is not None
        if method == "POST":
            made = Provider(body["name"], body["parent_provider_uuid"])
            self.providers[body["uuid"]] = made
            return {}
        provider = self.providers[rest[0]]
        if len(rest) == 1:
            provider.name = body["name"]
            provider.parent = body["parent_provider_uuid"]
            return {}
        provider.change(body)
        if rest[1] == "traits":
            provider.traits = set(body["traits"])
        else:
            provider.inventories = dict(body["inventories"])
        return {GENERATION: provider.generation}
