# SPDX-License-Identifier: Apache-2.0
"""Resource providers as they are in Placement, and as they should be."""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ceilometer_perf.slices.placement import encoding
from ceilometer_perf.slices.placement.client import Client
from ceilometer_perf.slices.placement.encoding import Encoding, Resources
from ceilometer_perf.slices.placement.errors import (
    EncodingError,
    PlacementError,
)

Inventories = Mapping[str, Mapping[str, Any]]
"""Placement's, by resource class."""

_PROVIDERS = "resource_providers"
_LONGEST_NAME = 200  # Placement's limit


@dataclasses.dataclass(frozen=True)
class Node:
    """The compute node's provider."""

    uuid: str
    name: str


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A provider as nova.conf has it."""

    uuid: str
    name: str
    resources: Resources
    traits: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Present:
    """A provider as Placement has it."""

    uuid: str
    name: str
    parent: str | None
    generation: int
    inventories: Inventories
    traits: frozenset[str]

    @property
    def open(self) -> bool:
        """Whether any of it may be allocated."""
        return is_open(self.inventories)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What Placement has of a compute node's slices, by UUID."""

    #: The compute node's own.
    node: Present
    present: Mapping[str, Present]
    resource_classes: frozenset[str]
    traits: frozenset[str]


def is_open(inventories: Inventories) -> bool:
    """Whether any of it may be allocated."""
    return any(i["total"] > i["reserved"] for i in inventories.values())


def inventories(resources: Resources, *, reserved: bool) -> Inventories:
    """Written in full: what is left out would have defaults."""
    return {
        name: {
            "total": total,
            "reserved": total if reserved else 0,
            "min_unit": 1,
            "max_unit": total,
            "step_size": 1,
            "allocation_ratio": 1.0,
        }
        for name, total in resources.items()
    }


def find_node(client: Client, name: str) -> Node:
    """The compute node's provider, which nova-compute makes.

    :raises PlacementError: there is none of that name.
    """
    found = client.get(f"/resource_providers?name={quote(name)}", _PROVIDERS)
    for provider in found:
        if provider["parent_provider_uuid"] is None:
            return Node(provider["uuid"], provider["name"])
    raise PlacementError(
        f"Placement has no compute node {name!r}: has nova-compute started "
        "on it? Name it as `openstack hypervisor list` does, with --node"
    )


def wanted(node: Node, encoded: Encoding) -> Mapping[str, Wanted]:
    """The providers of a host's slices, by UUID.

    A UUID follows from those of node and slice, so every run finds the
    same. Names begin with the node's, since they are unique in Placement.
    """
    found = {}
    for each in encoded.providers.values():
        name = f"{node.name}_{each.slice}"
        if len(name) > _LONGEST_NAME:
            raise EncodingError(
                f"Slice {each.slice}: {name} has more than {_LONGEST_NAME} "
                "characters, Placement's limit: give the slice a shorter name"
            )
        key = provider_uuid(node, each.slice)
        found[key] = Wanted(key, name, each.resources, each.traits)
    return found


def provider_uuid(node: Node, slice_name: str) -> str:
    """The same for the same slice of the same node at all times."""
    return str(uuid.uuid5(uuid.UUID(node.uuid), slice_name))


def is_slices(node: Node, uuid: str, name: str) -> bool:
    """Whether a provider was made for a slice of a node.

    Those that were just made have no traits yet.
    """
    return uuid == provider_uuid(node, name.removeprefix(f"{node.name}_"))


def read(client: Client, node: Node, known: Mapping[str, Wanted]) -> Snapshot:
    """The providers that are slices, or were, or are about to be."""
    in_tree = f"/resource_providers?in_tree={node.uuid}"
    there = client.get(in_tree, _PROVIDERS)
    ours = set(known)
    ours |= {
        each["uuid"]
        for each in there
        if is_slices(node, each["uuid"], each["name"])
    }
    traits = frozenset(client.get("/traits?name=startswith:CUSTOM_", "traits"))
    if encoding.MARKER in traits:
        marked = f"{in_tree}&required={encoding.MARKER}"
        ours |= {each["uuid"] for each in client.get(marked, _PROVIDERS)}
    found = {
        provider["uuid"]: _present(client, provider)
        for provider in there
        if provider["uuid"] in {node.uuid, *ours}
    }
    return Snapshot(
        found.pop(node.uuid),
        found,
        frozenset(
            each["name"]
            for each in client.get("/resource_classes", "resource_classes")
        ),
        traits,
    )


def _present(client: Client, provider: Mapping[str, Any]) -> Present:
    path = f"/resource_providers/{provider['uuid']}"
    return Present(
        provider["uuid"],
        provider["name"],
        provider["parent_provider_uuid"],
        provider["generation"],
        client.get(f"{path}/inventories", "inventories"),
        frozenset(client.get(f"{path}/traits", "traits")),
    )


def allocations(client: Client, consumer: str) -> Mapping[str, Resources]:
    """What a consumer has, by the provider's UUID."""
    found = client.get(f"/allocations/{consumer}", "allocations")
    return {uuid: each["resources"] for uuid, each in found.items()}


def consumers(client: Client, uuid: str) -> tuple[str, ...]:
    """The consumers of a provider."""
    path = f"/resource_providers/{uuid}/allocations"
    return tuple(sorted(client.get(path, "allocations")))
