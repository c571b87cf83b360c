# SPDX-License-Identifier: Apache-2.0
"""Who may have which slice, without Placement: the tree is all it knows."""

from collections.abc import Mapping

from ceilometer_perf.slices.tree import Tree


class Oracle:
    """Slices that are held, by whom."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.held: dict[str, str] = {}

    def fits(self, resource_class: str) -> bool:
        """Whether a slice of a class is free, with all that it overlaps."""
        return any(
            spec.resource_class == resource_class and self._free(name)
            for name, spec in self._tree.specs.items()
        )

    def _free(self, name: str) -> bool:
        overlap = {name, *self._tree.conflicts(name)}
        return overlap.isdisjoint(self.held.values())

    def take(
        self,
        consumer: str,
        resource_class: str,
        where: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Give the slice that an allocation means; it must be free.

        ``where``: what was allocated, by the slice of the provider.
        """
        tree, named = self._tree, set(where)
        meant = [
            name
            for name in (*named, *(c for n in named for c in tree.children(n)))
            if tree.specs[name].resource_class == resource_class
        ]
        free = [name for name in meant if self._free(name)]
        assert free, f"{resource_class} at {where} while {self.held} are held"
        self.held[consumer] = free[0]

    def give_back(self, consumer: str) -> None:
        del self.held[consumer]
