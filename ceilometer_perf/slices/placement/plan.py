# SPDX-License-Identifier: Apache-2.0
"""What to write so that Placement has what nova.conf says, and in which order.

A slice that is in use, and was removed, renamed or divided otherwise, is kept
with all of it reserved: nothing more is allocated from it. What the new
slices share with it is not known here, so while there is any such, nothing
opens that isn't open: what is new or changed is reserved too.

Everything that changes is closed before anything opens. A close fails if the
provider was allocated from since it was read; then everything is read again.

Of the compute node's own provider, one class is ours: see ``encoding``.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
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

Kept = Mapping[str, Sequence[str]]
"""Consumers of providers that are in use as what they should not be."""


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


Goals = Mapping[str, Inventories]
"""By UUID; empty for a provider that goes."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The writes in their order; none where all is as it should be."""

    goals: Goals
    writes: Sequence[Write]


def unsettled(
    wanted: Mapping[str, Wanted], present: Mapping[str, Present]
) -> list[str]:
    """Providers that, if in use, are in use as what they should not be."""
    return [
        uuid
        for uuid, each in present.items()
        if each.inventories and not _settled(each, wanted.get(uuid))
    ]


def _settled(present: Present, wanted: Wanted | None) -> bool:
    """Whoever has some of it has what nova.conf means by it."""
    return (
        wanted is not None
        and {c: i["total"] for c, i in present.inventories.items()}
        == wanted.resources
        and has_shape(present, wanted)
    )


def has_shape(present: Present, wanted: Wanted) -> bool:
    """Whether it has the traits by which flavors find it."""
    there, right = (
        set(filter(encoding.is_shape, each.traits))
        for each in (present, wanted)
    )
    return there == right


def plan(
    node: Node,
    wanted: Mapping[str, Wanted],
    snapshot: Snapshot,
    kept: Kept,
    places: int,
) -> Plan:
    """Compare what should be with what is.

    ``kept``: the unsettled providers that are in use.
    """
    goals = goals_of(wanted, snapshot.present, kept)
    writes = [*_vocabulary(wanted, snapshot)]
    for present in to_close(goals, snapshot.present):
        writes.append(_close(present))
    for uuid, present in snapshot.present.items():
        if uuid not in wanted and uuid not in kept:
            writes.append(_remove(present))
    for uuid, each in wanted.items():
        if uuid not in kept:
            there = snapshot.present.get(uuid)
            writes += _establish(node, each, there, goals[uuid])
    return Plan(goals, [*writes, *_offer_places(snapshot.node, places, kept)])


def goals_of(
    wanted: Mapping[str, Wanted], present: Mapping[str, Present], kept: Kept
) -> Goals:
    """What each provider is to have in the end."""
    return {
        uuid: _inventories(wanted.get(uuid), present.get(uuid), kept)
        for uuid in {**present, **wanted}
    }


def to_close(
    goals: Goals, present: Mapping[str, Present]
) -> Iterator[Present]:
    """What must be reserved before anything opens."""
    for uuid, each in present.items():
        if each.open and goals[uuid] != each.inventories:
            yield each


def places_of(places: int, kept: Kept) -> Inventories:
    """Of the compute node's own provider, for all that may be in slices."""
    total = places + len({c for users in kept.values() for c in users})
    return inventories(
        {encoding.PLACE: total} if total else {}, reserved=False
    )


def _offer_places(node: Present, places: int, kept: Kept) -> Iterator[Write]:
    others = {k: v for k, v in node.inventories.items() if k != encoding.PLACE}
    goal = {**others, **places_of(places, kept)}
    if goal != node.inventories:
        total = goal.get(encoding.PLACE, {}).get("total", 0)
        what = f"offer {total} {encoding.PLACE} at"
        yield _put_inventories(node, goal, what)


def _inventories(
    wanted: Wanted | None, present: Present | None, kept: Kept
) -> Inventories:
    """What is to be allocated from a provider, and what is reserved."""
    if present is not None and present.uuid in kept:
        return reserved(present.inventories)
    if wanted is None:
        return {}
    stays_open = (
        present is not None and present.open and _settled(present, wanted)
    )
    return inventories(
        wanted.resources, reserved=bool(kept) and not stays_open
    )


def reserved(inventories: Inventories) -> Inventories:
    """The same, of which nothing can be allocated."""
    return {
        name: {**inventory, "reserved": inventory["total"]}
        for name, inventory in inventories.items()
    }


def _vocabulary(
    wanted: Mapping[str, Wanted], snapshot: Snapshot
) -> Iterator[Write]:
    """Classes and traits that Placement does not have."""
    classes = {name for each in wanted.values() for name in each.resources}
    classes |= {encoding.PLACE} if wanted else set()
    for name in sorted(classes - snapshot.resource_classes):
        yield Write(
            "PUT", f"/resource_classes/{name}", None,
            f"create the resource class {name}",
        )  # fmt: skip
    traits = {name for each in wanted.values() for name in each.traits}
    for name in sorted(traits - snapshot.traits):
        yield Write("PUT", f"/traits/{name}", None, f"create the trait {name}")


def _close(present: Present) -> Write:
    closed = reserved(present.inventories)
    return _put_inventories(present, closed, "reserve all of")


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
    if goal != (reserved(now) if closed else now):
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
