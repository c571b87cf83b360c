# SPDX-License-Identifier: Apache-2.0
"""Which slice an instance gets; Placement has chosen its class.

Most allocations mean one slice. A part of a pool is any of its class: the
first in nova.conf's order that no domain has, and that is not reserved
for an instance that has no domain yet.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from ceilometer_perf.slices.placement import providers
from ceilometer_perf.slices.placement.encoding import Encoding, Resources
from ceilometer_perf.slices.placement.errors import ChoiceError
from ceilometer_perf.slices.placement.providers import Node
from ceilometer_perf.slices.placement.records import Records
from ceilometer_perf.slices.tree import Tree

Taken = Mapping[str, tuple[str, ...]]
"""The slices that domains have, each with their UUIDs."""

Allocations = Callable[[str], Mapping[str, Resources]]
"""What Placement says a consumer has, by the provider's UUID."""


@dataclasses.dataclass(frozen=True)
class Chooser:
    """One host and its Placement."""

    allocations: Allocations
    node: Node
    tree: Tree
    encoded: Encoding

    def choose(
        self, consumer: str, taken: Callable[[], Taken], records: Records
    ) -> str:
        """The slice; the same one on every call.

        :raises ChoiceError: there is none that could be named.
        """
        candidates = self._meant(consumer)
        # Read after Placement: an instance with an allocation may run by now.
        running = taken()
        valid = dict(self._valid(records.read(), running))
        self._refuse_unknown(consumer, candidates, running)
        holders = _holders(consumer, running, valid)
        chosen = self._first(consumer, candidates, holders, running, valid)
        if consumer not in running.get(chosen, ()):
            valid[consumer] = chosen
        records.write(valid)
        return chosen

    def _meant(self, consumer: str) -> list[str]:
        """The slices that an allocation may mean, in nova.conf's order."""
        allocated = self._allocated(consumer)
        if not allocated:
            raise ChoiceError(
                f"{consumer} has no allocation of a slice of {self.node.name}:"
                " is it an instance's UUID, was it scheduled here, and has "
                "`slice sync` registered these slices?"
            )
        found = [
            name
            for name in self.tree
            if self.encoded.claim(self.tree, name) == allocated
        ]
        if not found:
            told = "; ".join(
                f"{dict(units)} at {name}" for name, units in allocated.items()
            )
            raise ChoiceError(
                f"{consumer} has {told}, which matches no slice: create its "
                "flavor as `slice flavors` prints it"
            )
        return found

    def _allocated(self, consumer: str) -> Mapping[str, Resources]:
        """By the slice whose provider it is; others are not ours."""
        uuids = {
            providers.provider_uuid(self.node, name): name
            for name in self.encoded.providers
        }
        return {
            uuids[uuid]: units
            for uuid, units in self.allocations(consumer).items()
            if uuid in uuids
        }

    def _valid(
        self, records: Mapping[str, str], running: Taken
    ) -> Iterator[tuple[str, str]]:
        """Without those that run by now, and those whose allocation is gone.

        An instance that is resized on its host still has a domain in the
        slice of before.
        """
        for consumer, name in records.items():
            if name not in self.tree.specs:
                continue
            claim = self.encoded.claim(self.tree, name)
            runs = any(
                self.encoded.claim(self.tree, had) == claim
                for had, domains in running.items()
                if consumer in domains and had in self.tree.specs
            )
            if not runs and claim == self._allocated(consumer):
                yield consumer, name

    def _refuse_unknown(
        self, consumer: str, candidates: list[str], running: Taken
    ) -> None:
        """Refuse to choose while a domain runs in an unknown slice.

        nova.conf does not have its slice any more, so it may be on any of the
        candidates' hardware, unless its allocation is of other providers.
        """
        ours = self.encoded.claim(self.tree, candidates[0])
        for name, domains in running.items():
            for domain in domains:
                if name in self.tree.specs or domain == consumer:
                    continue
                if not self.allocations(domain) or (
                    set(self._allocated(domain)) & set(ours)
                ):
                    raise ChoiceError(
                        f"Domain {domain} has the slice {name}, which "
                        "is not in nova.conf, so what is free is unknown: "
                        "give the slice its name back, or reboot the "
                        "instance"
                    )

    def _first(
        self,
        consumer: str,
        candidates: list[str],
        holders: Mapping[str, str],
        running: Taken,
        records: Mapping[str, str],
    ) -> str:
        """The slice it already has, if no other has it; else a free one."""
        had = [
            name for name in candidates if consumer in running.get(name, ())
        ]
        noted = [name for name in candidates if records.get(consumer) == name]
        for name in (*had, *noted, *candidates):
            overlap = (name, *self.tree.conflicts(name))
            if holders.keys().isdisjoint(overlap):
                return name
        told = ", ".join(
            f"{holders[each]} has {each}"
            for name in candidates
            for each in (name, *self.tree.conflicts(name))
            if each in holders
        )
        raise ChoiceError(
            f"None of {', '.join(candidates)} is free, although Placement "
            f"allocated one to {consumer}: {told}. Has an instance here no "
            "allocation?"
        )


def kept(
    tree: Tree, consumer: str, taken: Taken, records: Mapping[str, str]
) -> str | None:
    """The slice of a domain or, once that is gone, of its record.

    For a host that can't ask Placement. None if another may have it.
    """
    names = [name for name, domains in taken.items() if consumer in domains]
    if names:
        records = {}  # of others, they may be outdated; a domain isn't
    elif consumer in records:
        names = [records[consumer]]
    if len(names) != 1 or not tree.specs.keys() >= {*names, *taken}:
        return None
    (name,) = names
    overlap = (name, *tree.conflicts(name))
    holders = _holders(consumer, taken, records)
    return name if holders.keys().isdisjoint(overlap) else None


def _holders(
    consumer: str, running: Taken, records: Mapping[str, str]
) -> Mapping[str, str]:
    """The holders of slices other than this consumer."""
    holders = {name: other for other, name in records.items()}
    for name, domains in running.items():
        others = [domain for domain in domains if domain != consumer]
        if others:
            holders[name] = others[0]
    return {name: who for name, who in holders.items() if who != consumer}
