# SPDX-License-Identifier: Apache-2.0
"""What two slices take, compared with their places in the tree.

A slice lies inside of its parent, and two that share anything are one a part
of the other: else Placement, which knows the tree alone, would allocate the
same hardware twice.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ceilometer_perf import cpus
from ceilometer_perf.slices.breach import Breach
from ceilometer_perf.slices.footprint import Footprint, Pool, size
from ceilometer_perf.slices.template import Place
from ceilometer_perf.slices.tree import Tree

Footprints = Mapping[str, Footprint]
#: CPU numbers, addresses or UUIDs, and the lines that take them.
Taken = Mapping[Any, Place]

#: What can't be shared, by the name that people know it by.
KINDS: Mapping[str, Callable[[Footprint], Taken]] = {
    "CPU": lambda footprint: footprint.cpus,
    "PCI device": lambda footprint: footprint.pci,
    "mediated device": lambda footprint: footprint.mdevs,
}
#: Clashes reported for a slice, over one unit and at one level of the tree:
#: if hundreds take the same CPU, not every pair is reported.
MOST_SHOWN = 8


def breaches(tree: Tree, footprints: Footprints) -> Iterator[Breach]:
    """Every breach of the two rules, in the order of the tree."""
    for kind, units in KINDS.items():
        taken = {name: units(footprints[name]) for name in tree}
        yield from _outside(tree, footprints, kind, taken)
        yield from _overlaps(tree, kind, taken)
    yield from _memory(tree, footprints)


def _outside(
    tree: Tree,
    footprints: Footprints,
    kind: str,
    taken: Mapping[str, Taken],
) -> Iterator[Breach]:
    for name in tree:
        above = tree.parent(name)
        if above is None:
            continue
        lost = [unit for unit in taken[name] if unit not in taken[above]]
        for place, units in _by_place(taken[name], lost):
            theirs = next(iter(taken[above].values()), None)
            yield Breach(
                "outside",
                (name, above),
                f"{name} takes {told(kind, units)}, which {above} does not "
                "have",
                (place, theirs or footprints[above].place),
            )


def _by_place(
    taken: Taken, units: Iterable[Any]
) -> Iterator[tuple[Place, list[Any]]]:
    """What one line says, together."""
    found: dict[Place, list[Any]] = defaultdict(list)
    for unit in units:
        found[taken[unit]].append(unit)
    yield from found.items()


def told(kind: str, units: Sequence[Any]) -> str:
    """For people: ``CPU 4-7``, ``PCI device 0000:3b:00.0``."""
    words = cpus.text(units) if kind == "CPU" else ", ".join(units)
    return f"{kind} {words}"


def _overlaps(
    tree: Tree, kind: str, taken: Mapping[str, Taken]
) -> Iterator[Breach]:
    holders: dict[Any, list[str]] = defaultdict(list)
    for name in tree:
        for unit in taken[name]:
            holders[unit].append(name)
    shared: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for unit, names in holders.items():
        for pair in _clashes(tree, names):
            shared[pair].append(unit)
    for (one, other), units in shared.items():
        # The lines of one of them: the others are like it.
        first = units[0]
        yield Breach(
            "overlap",
            (one, other),
            f"{one} and {other} both take {told(kind, units)}, and neither "
            "is part of the other",
            (taken[one][first], taken[other][first]),
        )


def _clashes(tree: Tree, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of holders of one unit of which neither is part of the other.

    ``names`` are in the tree's order. Where two clash, their parts are not
    reported as well.
    """
    chain: list[str] = []  # holders, each part of the one before
    beside: list[list[str]] = [[]]  # at each level, the previous holder
    for name in names:
        while chain and not tree.is_part(name, chain[-1]):
            beside.pop()
            beside[-1].append(chain.pop())
        for other in beside[-1][-MOST_SHOWN:]:
            yield other, name
        chain.append(name)
        beside.append([])


def _memory(tree: Tree, footprints: Footprints) -> Iterator[Breach]:
    """Parts take no more than the whole, alone and together."""
    for above in tree:
        fitting = []
        for name in tree.children(above):
            lost = [*_too_much(footprints, above, name)]
            yield from lost
            fitting += [] if lost else [name]
        yield from _together(footprints, above, fitting)


def _too_much(
    footprints: Footprints, above: str, name: str
) -> Iterator[Breach]:
    ours, theirs = footprints[name], footprints[above]
    for pool, wanted, there in excess(amounts(ours), amounts(theirs)):
        yield Breach(
            "outside",
            (name, above),
            f"{name} takes {size(wanted)} of {pool}, {above} has "
            f"{size(there)}",
            (line(ours, pool), line(theirs, pool)),
        )


def _together(
    footprints: Footprints, above: str, names: Iterable[str]
) -> Iterator[Breach]:
    """For each pool, the first sibling for which nothing is left."""
    theirs = footprints[above]
    for name, pool, wanted, there in overdrawn(
        footprints, names, amounts(theirs)
    ):
        yield Breach(
            "overlap",
            (name, above),
            f"{name} and its siblings before it take {size(wanted)} of "
            f"{pool}, {above} has {size(there)}",
            (line(footprints[name], pool), line(theirs, pool)),
        )


def amounts(footprint: Footprint) -> Mapping[Pool, int]:
    """KiB of each pool."""
    return {pool: amount.kib for pool, amount in footprint.memory.items()}


def excess(
    wanted: Mapping[Pool, int], there: Mapping[Pool, int]
) -> Iterator[tuple[Pool, int, int]]:
    """The pools of which more is wanted than there is: KiB of both.

    Where one of them leaves the node open, only sums can be compared.
    """
    if any(pool.node is None for pool in [*wanted, *there]):
        wanted, there = _sums(wanted), _sums(there)
    for pool, kib in wanted.items():
        if kib > there.get(pool, 0):
            yield pool, kib, there.get(pool, 0)


def _sums(pools: Mapping[Pool, int]) -> Mapping[Pool, int]:
    found: dict[Pool, int] = defaultdict(int)
    for pool, kib in pools.items():
        found[Pool(None, pool.page)] += kib
    return found


def overdrawn(
    footprints: Footprints, names: Iterable[str], there: Mapping[Pool, int]
) -> Iterator[tuple[str, Pool, int, int]]:
    """Those that in turn want more than is left: KiB wanted, there.

    Each pool is reported once.
    """
    sums: dict[Pool, int] = defaultdict(int)
    told_of: set[Pool] = set()
    for name in names:
        for pool, kib in amounts(footprints[name]).items():
            sums[pool] += kib
        for pool, wanted, left in excess(sums, there):
            if pool not in told_of:
                told_of.add(pool)
                yield name, pool, wanted, left


def line(footprint: Footprint, pool: Pool) -> Place:
    """The line that takes of a pool, or else one that takes memory."""
    places = {
        (pool.node, pool.page): amount.place
        for pool, amount in footprint.memory.items()
    }
    same_page = (
        place for (_, page), place in places.items() if page == pool.page
    )
    first = next(same_page, next(iter(places.values()), footprint.place))
    return places.get((pool.node, pool.page), first)
