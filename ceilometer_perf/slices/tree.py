# SPDX-License-Identifier: Apache-2.0
"""Which slice is a part of which, and so which exclude each other."""

import functools
from collections.abc import Iterable, Iterator, Mapping

from ceilometer_perf.slices.spec import SliceSpec


class Tree:
    """The slices of a host: any depth, any number of roots.

    Made from what ``spec.read`` returns, which has checked that every parent
    is there and none is its own. Orders are those of nova.conf.
    """

    def __init__(self, specs: Iterable[SliceSpec]) -> None:
        self.specs: Mapping[str, SliceSpec] = {s.name: s for s in specs}
        below: dict[str | None, list[str]] = {None: []}
        for spec in self.specs.values():
            below.setdefault(spec.conflict_parent, []).append(spec.name)
        self._children = {name: tuple(kids) for name, kids in below.items()}

    @property
    def roots(self) -> tuple[str, ...]:
        """The slices that are part of no other."""
        return self._children[None]

    @functools.cached_property
    def leaves(self) -> tuple[str, ...]:
        """The slices that have no parts, from left to right."""
        return tuple(name for name in self if not self.children(name))

    def __iter__(self) -> Iterator[str]:
        """All of them, each before its parts."""
        for root in self.roots:
            yield root
            yield from self.descendants(root)

    def __len__(self) -> int:
        return len(self.specs)

    def children(self, name: str) -> tuple[str, ...]:
        """The direct parts of a slice."""
        return self._children.get(name, ())

    def parent(self, name: str) -> str | None:
        """The slice that this one is a direct part of."""
        return self.specs[name].conflict_parent

    def ancestors(self, name: str) -> tuple[str, ...]:
        """The slices that this one is a part of, the nearest first."""
        found = []
        above = self.parent(name)
        while above is not None:
            found.append(above)
            above = self.parent(above)
        return tuple(found)

    def descendants(self, name: str) -> tuple[str, ...]:
        """The parts of a slice and theirs, each before its own parts."""
        found = []
        waiting = [*reversed(self.children(name))]
        while waiting:
            found.append(waiting.pop())
            waiting += reversed(self.children(found[-1]))
        return tuple(found)

    def conflicts(self, name: str) -> tuple[str, ...]:
        """The slices that can't be in use while this one is."""
        return self.ancestors(name) + self.descendants(name)

    def is_part(self, name: str, of: str) -> bool:
        """Whether one slice is below another, however deep."""
        begin, end = self._spans[of]
        return begin < self._spans[name][0] < end

    @functools.cached_property
    def _spans(self) -> Mapping[str, tuple[int, int]]:
        """Where a slice and its parts begin and end in the order of all."""
        order = list(self)
        counts = dict.fromkeys(order, 1)
        for name in reversed(order):  # parts come first
            above = self.parent(name)
            if above is not None:
                counts[above] += counts[name]
        return {n: (i, i + counts[n]) for i, n in enumerate(order)}
