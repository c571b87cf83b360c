# SPDX-License-Identifier: Apache-2.0
"""Slices in terms of Placement: providers, and what a flavor requests.

Placement doesn't know that slices overlap; it only counts. A slice with parts
excludes them because its request takes all that they would be counted from:

* a slice whose parts have no parts is a **pool**, one provider with an
  inventory of 1 of its own class and of each part's class as many as there
  are. A part asks one unit; the slice itself asks 1 and all units.
* any other slice is a provider with an inventory of 1. If it has parts, it
  asks for that one and, in a group of its own for each, for all that the
  pools and single slices within it have.

Traits make sure that requests land where they mean to. The trait of a class
is a digest of all that its slices ask, so a flavor that was made for another
division of a host, or for another host, finds nothing instead of a part of
something. A pool within a larger slice has a trait that numbers it.

Nova's scheduler drops what takes nothing from the compute node's own provider.
So that has a class of its own, of which each instance in a slice takes one.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping

from ceilometer_perf.slices.placement.errors import EncodingError
from ceilometer_perf.slices.tree import Tree

#: Every provider that is a slice has it.
MARKER = "CUSTOM_LIBVIRT_SLICE"
#: The resource class that the compute node's own provider has.
PLACE = "CUSTOM_LIBVIRT_SLICE"
_SHAPE = "CUSTOM_SLICE_SHAPE_"
_PART = "_PART_"

Resources = Mapping[str, int]
"""Units by resource class."""


@dataclasses.dataclass(frozen=True)
class Group:
    """What must come from one provider, and the trait that it has."""

    resources: Resources
    trait: str


@dataclasses.dataclass(frozen=True)
class SliceProvider:
    """A provider below that of the compute node."""

    slice: str
    #: All of its inventory.
    resources: Resources
    traits: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """All of a host's slices."""

    providers: Mapping[str, SliceProvider]
    #: What a flavor asks that is to get any slice of a class.
    requests: Mapping[str, tuple[Group, ...]]
    #: The provider from which each slice is counted.
    counted_at: Mapping[str, str]
    #: How many instances there can be at most.
    places: int

    def claim(self, tree: Tree, name: str) -> Mapping[str, Resources]:
        """What an instance has been allocated that has this slice.

        By slice whose provider it comes from.
        """
        groups = self.requests[tree.specs[name].resource_class]
        if len(groups) == 1:
            return {self.counted_at[name]: groups[0].resources}
        held = {name: groups[0].resources}
        for group in groups[1:]:
            (provider,) = (
                p for p in self.providers.values() if group.trait in p.traits
            )
            held[provider.slice] = group.resources
        return held


def ours(trait: str) -> bool:
    """Whether it is ours to add and remove."""
    return trait == MARKER or trait.startswith(_SHAPE)


def is_shape(trait: str) -> bool:
    """Whether it is a digest of what the slices of a class request."""
    return trait.startswith(_SHAPE) and _PART not in trait


def encode(tree: Tree) -> Encoding:
    """The providers and requests of a host's slices.

    :raises EncodingError: requests would not exclude what overlaps.
    """
    _refuse_place(tree)
    shapes = {name: _shape(tree, name) for name in tree}
    _refuse_other_shapes(tree, shapes)
    _refuse_twins(tree, shapes)
    traits: dict[str, set[str]] = {}
    requests: dict[str, tuple[Group, ...]] = {}
    counted_at = {name: _counted_at(tree, name) for name in tree}
    for name, shape in shapes.items():
        own = traits.setdefault(counted_at[name], {MARKER})
        own.add(shape.trait)
        for number, part in enumerate(shape.parts, start=1):
            traits.setdefault(part, {MARKER}).add(shape.part_trait(number))
        requests[tree.specs[name].resource_class] = shape.groups
    return Encoding(
        {
            name: SliceProvider(
                name, _inventory(tree, name), frozenset(traits[name])
            )
            for name in tree
            if counted_at[name] == name
        },
        requests,
        counted_at,
        len(tree.leaves),
    )


@dataclasses.dataclass(frozen=True)
class _Shape:
    """What a slice asks, and where it asks more than a group."""

    #: Of each group; the slice's own comes first.
    asks: tuple[Resources, ...]
    #: The providers that the groups after the first are meant for.
    parts: tuple[str, ...] = ()

    @property
    def trait(self) -> str:
        text = json.dumps(self.asks, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12].upper()
        return _SHAPE + digest

    def part_trait(self, number: int) -> str:
        return f"{self.trait}{_PART}{number}"

    @property
    def groups(self) -> tuple[Group, ...]:
        own, *others = self.asks
        return (
            Group(own, self.trait),
            *(
                Group(resources, self.part_trait(number))
                for number, resources in enumerate(others, start=1)
            ),
        )


def _shape(tree: Tree, name: str) -> _Shape:
    if not tree.children(name) or _is_pool(tree, name):
        return _Shape((_inventory(tree, name),))
    # Hosts that list equal parts in another order are divided alike.
    parts = sorted(
        _parts(tree, name),
        key=lambda part: sorted(_inventory(tree, part).items()),
    )
    asks = (_inventory(tree, part) for part in parts)
    return _Shape((_inventory(tree, name), *asks), tuple(parts))


def _parts(tree: Tree, name: str) -> Iterator[str]:
    """The pools and single slices within, at any depth."""
    for part in tree.descendants(name):
        single = not tree.children(part) and _counted_at(tree, part) == part
        if single or _is_pool(tree, part):
            yield part


def _is_pool(tree: Tree, name: str) -> bool:
    children = tree.children(name)
    return bool(children) and not any(map(tree.children, children))


def _counted_at(tree: Tree, name: str) -> str:
    parent = tree.parent(name)
    pooled = parent is not None and _is_pool(tree, parent)
    return parent if pooled and parent is not None else name


def _inventory(tree: Tree, name: str) -> Resources:
    """Of a slice's provider: one of its own, and the units of a pool."""
    units = Counter({tree.specs[name].resource_class: 1})
    if _is_pool(tree, name):
        units.update(
            tree.specs[child].resource_class for child in tree.children(name)
        )
    return dict(sorted(units.items()))


def _refuse_place(tree: Tree) -> None:
    for name, spec in tree.specs.items():
        if spec.resource_class == PLACE:
            raise EncodingError(
                f"Slice {name}: its resource_class is {PLACE}, which counts "
                "the instances of the compute node: give it another one"
            )


def _refuse_other_shapes(tree: Tree, shapes: Mapping[str, _Shape]) -> None:
    """A flavor asks for a class: all of a class must ask alike."""
    first: dict[str, str] = {}
    for name, shape in shapes.items():
        resource_class = tree.specs[name].resource_class
        other = first.setdefault(resource_class, name)
        if shapes[other].asks != shape.asks:
            raise EncodingError(
                f"Slices {other} and {name} are both {resource_class} but "
                f"are divided differently ({_within(tree, other)} and "
                f"{_within(tree, name)}), and one flavor can't ask for "
                "either: give one of them another resource_class"
            )


def _within(tree: Tree, name: str) -> str:
    names = tree.descendants(name)
    if not names:
        return "no parts"
    classes = Counter(tree.specs[part].resource_class for part in names)
    return " + ".join(f"{n} {what}" for what, n in sorted(classes.items()))


def _refuse_twins(tree: Tree, shapes: Mapping[str, _Shape]) -> None:
    """Groups can't be required to come from below the same slice."""
    first: dict[str, str] = {}
    for name in (name for name in tree if shapes[name].parts):
        resource_class = tree.specs[name].resource_class
        other = first.setdefault(resource_class, name)
        if other != name:
            raise EncodingError(
                f"Slices {other} and {name} are both {resource_class} and "
                "have parts that have parts; a flavor can't make Placement "
                "take all parts from below one of them, so it would mix "
                "them: give one of them another resource_class"
            )
