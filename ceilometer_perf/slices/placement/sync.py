# SPDX-License-Identifier: Apache-2.0
"""Write a host's slices to Placement; no request if they are there."""

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence

import tenacity

from ceilometer_perf.slices.placement import providers
from ceilometer_perf.slices.placement.client import Client
from ceilometer_perf.slices.placement.encoding import Encoding
from ceilometer_perf.slices.placement.errors import ConflictError
from ceilometer_perf.slices.placement.plan import Write, plan, unsettled
from ceilometer_perf.slices.placement.providers import (
    Inventories,
    Snapshot,
    Wanted,
)

#: How often to start over after others changed the same providers.
ATTEMPTS = 8
_GENERATION = "resource_provider_generation"


class State(enum.Enum):
    """Whether a provider can be allocated from."""

    OPEN = "open"
    #: In use, but nova.conf no longer has it like this: all of it is reserved,
    #: so that nothing more is allocated.
    KEPT = "kept"
    #: New or changed, and may overlap with what is kept: reserved until then.
    WAITING = "waiting"


@dataclasses.dataclass(frozen=True)
class Provider:
    """A provider as it is now, or would be."""

    uuid: str
    name: str
    inventories: Inventories
    state: State
    #: UUIDs of the consumers of a provider that is kept.
    consumers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Synced:
    """What was written, or would be, and what that leaves."""

    providers: Sequence[Provider]
    writes: Sequence[Write]


def sync(
    client: Client, node_name: str, encoded: Encoding, *, dry_run: bool
) -> Synced:
    """Write what is missing or wrong.

    :raises PlacementError: Placement can't be asked or refuses, or others
        changed the same providers again and again.
    """
    done: list[Write] = []
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ConflictError),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random(0, 0.2),
        reraise=True,
    ):
        with attempt:
            return _once(client, node_name, encoded, done, dry_run)
    raise AssertionError("tenacity returns or raises")


def _once(
    client: Client,
    node_name: str,
    encoded: Encoding,
    done: list[Write],
    dry_run: bool,
) -> Synced:
    node = providers.find_node(client, node_name)
    wanted = providers.wanted(node, encoded)
    snapshot = providers.read(client, node, wanted)
    kept = _kept(client, wanted, snapshot)
    planned = plan(node, wanted, snapshot, kept, encoded.places)
    if dry_run:
        done += planned.writes
    else:
        _write(client, planned.writes, snapshot, done)
    return Synced(
        [
            _provider(uuid, goal, wanted, snapshot, kept)
            for uuid, goal in planned.goals.items()
            if goal
        ],
        done,
    )


def _kept(
    client: Client, wanted: Mapping[str, Wanted], snapshot: Snapshot
) -> Mapping[str, tuple[str, ...]]:
    """Consumers of each provider that must change and has any."""
    users = {
        uuid: providers.consumers(client, uuid)
        for uuid in unsettled(wanted, snapshot.present)
    }
    return {uuid: consumers for uuid, consumers in users.items() if consumers}


def _write(
    client: Client,
    writes: Iterable[Write],
    snapshot: Snapshot,
    done: list[Write],
) -> None:
    """Each with the generation that the one before it left."""
    there = [snapshot.node, *snapshot.present.values()]
    generations = {present.uuid: present.generation for present in there}
    for write in writes:
        body = write.body
        if write.guarded is not None:
            # A provider that is new has had no other generation.
            generation = generations.get(write.guarded, 0)
            body = {**(body or {}), _GENERATION: generation}
        answer = client.ask(write.method, write.path, body)
        done.append(write)
        if write.guarded is not None:
            generations[write.guarded] = answer.get(_GENERATION, generation)


def _provider(
    uuid: str,
    goal: Inventories,
    wanted: Mapping[str, Wanted],
    snapshot: Snapshot,
    kept: Mapping[str, tuple[str, ...]],
) -> Provider:
    if uuid in kept:
        name = snapshot.present[uuid].name
        return Provider(uuid, name, goal, State.KEPT, kept[uuid])
    offered = any(each["total"] > each["reserved"] for each in goal.values())
    state = State.OPEN if offered else State.WAITING
    return Provider(uuid, wanted[uuid].name, goal, state)
