# SPDX-License-Identifier: Apache-2.0
"""The host's slices in the tree of providers that Nova writes to Placement.

Nova writes a tree provider by provider, in an order of its own, and each of
them only if nobody changed it since it was read. So what must be closed is
closed in one pass, and what may open then opens in the next, a minute later.

Instances without a slice may run on a host that is given slices, and instances
in slices on one that has them no longer. Either may use all of the host's
hardware: nothing is offered until they are gone.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.plural import number_of
from ceilometer_perf.slices.placement import encoding, plan, providers
from ceilometer_perf.slices.placement.encoding import (
    MARKER,
    Encoding,
    Resources,
)
from ceilometer_perf.slices.placement.plan import Kept
from ceilometer_perf.slices.placement.providers import (
    Inventories,
    Node,
    Present,
    Wanted,
    is_open,
)

LOG = log.getLogger(__name__)

Consumers = Callable[[str], Mapping[str, Resources]]
"""Of a provider: what each of them has of it."""


class Report:
    """Of one host."""

    def __init__(self, encoded: Encoding, consumers: Consumers) -> None:
        self._encoded = encoded
        self._consumers = consumers
        self._changes = Changes(LOG)

    def write(self, tree: Any, nodename: str, before: Inventories) -> None:
        """Put the slices into a tree that has what Nova would report.

        ``before``: what Placement has of the node's own provider.
        """
        own = tree.data(nodename)
        node = Node(own.uuid, own.name)
        wanted = providers.wanted(node, self._encoded)
        there = dict(_present(tree, node, wanted))
        if not wanted and not there:
            return
        kept = self._kept(plan.unsettled(wanted, there))
        others = _others(before, own.inventory) if wanted else {}
        ordinary = self._ordinary(node, others)
        goals = plan.goals_of(wanted, there, {**kept, **ordinary})
        closing = {each.uuid for each in plan.to_close(goals, there)}
        for uuid in closing:
            closed = plan.reserved(there[uuid].inventories)
            tree.update_inventory(uuid, closed)
        waits = bool(closing) or is_open(others)
        if not waits:
            _remove(tree, goals)
            for uuid, each in wanted.items():
                if uuid not in kept:
                    _establish(tree, node, each, there.get(uuid), goals[uuid])
        places = plan.places_of(self._encoded.places, kept)
        if wanted:
            rest = plan.reserved(others) if waits or ordinary else {}
        else:
            rest = own.inventory
            rest = plan.reserved(rest) if waits or kept else rest
        tree.update_inventory(nodename, {**rest, **places})
        self._tell(node, kept, ordinary, sliced=bool(wanted))

    def _kept(self, unsettled: list[str]) -> Kept:
        """Consumers of each provider that must change and has any."""
        users = {uuid: sorted(self._consumers(uuid)) for uuid in unsettled}
        return {uuid: found for uuid, found in users.items() if found}

    def _ordinary(self, node: Node, others: Inventories) -> Kept:
        """Instances that have something else of the node than a slice."""
        if not others:
            return {}
        users = sorted(
            consumer
            for consumer, units in self._consumers(node.uuid).items()
            if not others.keys().isdisjoint(units)
        )
        return {node.uuid: users} if users else {}

    def _tell(
        self, node: Node, kept: Kept, ordinary: Kept, *, sliced: bool
    ) -> None:
        """What keeps inventory reserved, when that changes."""
        self._state(
            "ordinary", ordinary, f"No slice of {node.name} is offered", "no"
        )
        what = (
            "What is new or changed in [libvirt] slice_spec"
            if sliced
            else f"{node.name} has no [libvirt] slice_spec any more, and"
        )
        self._state("kept", kept, f"{what} is not offered", "an earlier")

    def _state(self, subject: str, kept: Kept, text: str, which: str) -> None:
        users = sorted({user for found in kept.values() for user in found})
        if users:
            self._changes.trouble(
                subject,
                f"{text} while the host has "
                f"{number_of(len(users), 'instance')} in {which} slice: "
                f"migrate or delete {', '.join(users)}",
            )
        else:
            self._changes.fine(subject, "They are gone, and it is offered")


def _present(
    tree: Any, node: Node, wanted: Mapping[str, Wanted]
) -> Iterator[tuple[str, Present]]:
    """Providers that are slices, or were."""
    for uuid in tree.get_provider_uuids(node.uuid):
        data = tree.data(uuid)
        marked = MARKER in data.traits and uuid != node.uuid
        made = providers.is_slices(node, uuid, data.name)
        if uuid in wanted or marked or made:
            yield (
                uuid,
                Present(
                    uuid,
                    data.name,
                    data.parent_uuid,
                    data.generation,
                    data.inventory,
                    frozenset(data.traits),
                ),
            )


def _others(before: Inventories, ordinary: Inventories) -> Inventories:
    """What Nova reports without slices; not what provider.yaml adds."""
    return {
        name: inventory
        for name, inventory in before.items()
        if name in ordinary or not name.startswith("CUSTOM_")
    }


def _remove(tree: Any, goals: plan.Goals) -> None:
    for uuid, goal in goals.items():
        if not goal and tree.exists(uuid):
            tree.remove(uuid)


def _establish(
    tree: Any,
    node: Node,
    wanted: Wanted,
    present: Present | None,
    goal: Inventories,
) -> None:
    if present is None:
        tree.new_child(wanted.name, node.uuid, uuid=wanted.uuid)
        present = Present(wanted.uuid, "", None, 0, {}, frozenset())
    foreign = {t for t in present.traits if not encoding.ours(t)}
    tree.update_traits(wanted.uuid, wanted.traits | foreign)
    # Nova writes inventory before traits: nothing is offered under old ones.
    renewed = present.inventories and not plan.has_shape(present, wanted)
    tree.update_inventory(
        wanted.uuid, plan.reserved(goal) if renewed else goal
    )
