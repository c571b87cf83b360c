# SPDX-License-Identifier: Apache-2.0
"""What to write so that Placement has what nova.conf says, and in which order.

A slice that is in use, and was removed, renamed or divided otherwise, is kept
with all of it reserved: nothing more is allocated from it. What the new
slices share with it is not known here, so while there is any such, nothing
opens that isn't open: what is new or changed is reserved too.

Everything that changes is closed before anything opens. A close fails if the
provider was allocated from since it was read; then everything is read again.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ceilometer_perf.slices.placement import encoding
from ceilometer_perf.slices.placement.providers import (
    Inventories,
    Node,
    Present,
    Snapshot,
    Wanted,
    inventories,
)

Body = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Write:
    """A request to Placement that changes it."""

    method: str
    path: str
    body: Body | None
    #: What it does, for people.
    what: str
    #: The provider whose generation belongs into the body.
    guarded: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The writes in their order; none where all is as it should be."""

    #: By UUID; empty for a provider that goes.
    goals: Mapping[str, Inventories]
    writes: Sequence[Write]


def unsettled(wanted: Mapping[str, Wanted], snapshot: Snapshot) -> list[str]:
    """Providers that, if in use, are in use as what they should not be."""
    return [
        uuid
        for uuid, present in snapshot.present.items()
        if present.inventories and not _settled(present, wanted.get(uuid))
    ]


def _settled(present: Present, wanted: Wanted | None) -> bool:
    """Whoever has some of it has what nova.conf means by it."""
    return (
        wanted is not None
        and {c: i["total"] for c, i in present.inventories.items()}
        == wanted.resources
        and set(filter(encoding.is_shape, present.traits))
        == set(filter(encoding.is_shape, wanted.traits))
    )


def plan(
    node: Node,
    wanted: Mapping[str, Wanted],
    snapshot: Snapshot,
    kept: Collection[str],
) -> Plan:
    """Compare what should be with what is.

    ``kept``: the unsettled providers that are in use.
    """
    goals = {
        uuid: _inventories(wanted.get(uuid), snapshot.present.get(uuid), kept)
        for uuid in {**snapshot.present, **wanted}
    }
    writes = [*_vocabulary(wanted, snapshot)]
    for uuid, present in snapshot.present.items():
        if present.open and goals[uuid] != present.inventories:
            writes.append(_close(present))
    for uuid, present in snapshot.present.items():
        if uuid not in wanted and uuid not in kept:
            writes.append(_remove(present))
    for uuid, each in wanted.items():
        if uuid not in kept:
            there = snapshot.present.get(uuid)
            writes += _establish(node, each, there, goals[uuid])
    return Plan(goals, writes)


def _inventories(
    wanted: Wanted | None, present: Present | None, kept: Collection[str]
) -> Inventories:
    """What is to be allocated from a provider, and what is reserved."""
    if present is not None and present.uuid in kept:
        return _reserved(present)
    if wanted is None:
        return {}
    stays_open = (
        present is not None and present.open and _settled(present, wanted)
    )
    return inventories(
        wanted.resources, reserved=bool(kept) and not stays_open
    )


def _reserved(present: Present) -> Inventories:
    return {
        name: {**inventory, "reserved": inventory["total"]}
        for name, inventory in present.inventories.items()
    }


def _vocabulary(
    wanted: Mapping[str, Wanted], snapshot: Snapshot
) -> Iterator[Write]:
    """Classes and traits that Placement does not have."""
    classes = {name for each in wanted.values() for name in each.resources}
    for name in sorted(classes - snapshot.resource_classes):
        yield Write(
            "PUT", f"/resource_classes/{name}", None,
            f"create the resource class {name}",
        )  # fmt: skip
    traits = {name for each in wanted.values() for name in each.traits}
    for name in sorted(traits - snapshot.traits):
        yield Write("PUT", f"/traits/{name}", None, f"create the trait {name}")


def _close(present: Present) -> Write:
    return _put_inventories(present, _reserved(present), "reserve all of")


def _remove(present: Present) -> Write:
    path = f"/resource_providers/{present.uuid}"
    return Write("DELETE", path, None, f"remove {present.name}")


def _establish(
    node: Node, wanted: Wanted, present: Present | None, goal: Inventories
) -> Iterator[Write]:
    """A provider as it should be, inventories last: they open it."""
    path = f"/resource_providers/{wanted.uuid}"
    body = {"name": wanted.name, "parent_provider_uuid": node.uuid}
    if present is None:
        yield Write(
            "POST", "/resource_providers", {**body, "uuid": wanted.uuid},
            f"create {wanted.name}",
        )  # fmt: skip
    elif (present.name, present.parent) != (wanted.name, node.uuid):
        what = f"rename {present.name} to {wanted.name}, below {node.name}"
        yield Write("PUT", path, body, what)
    there = frozenset[str]() if present is None else present.traits
    traits = wanted.traits | {t for t in there if not encoding.ours(t)}
    if traits != there:
        yield Write(
            "PUT", f"{path}/traits", {"traits": sorted(traits)},
            f"set the traits of {wanted.name}", wanted.uuid,
        )  # fmt: skip
    now = {} if present is None else present.inventories
    closed = present is not None and present.open and goal != now
    if goal != (_reserved(present) if closed and present else now):
        what = ", ".join(
            f"{each['total'] - each['reserved']} of {each['total']} {name}"
            for name, each in goal.items()
        )
        yield _put_inventories(wanted, goal, f"offer {what} at")


def _put_inventories(
    provider: Wanted | Present, goal: Inventories, what: str
) -> Write:
    return Write(
        "PUT",
        f"/resource_providers/{provider.uuid}/inventories",
        {"inventories": goal},
        f"{what} {provider.name}",
        provider.uuid,
    )
