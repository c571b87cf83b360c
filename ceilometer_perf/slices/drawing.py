# SPDX-License-Identifier: Apache-2.0
"""The tree of slices, drawn."""

from collections.abc import Iterator

from ceilometer_perf.slices.tree import Tree


def draw(tree: Tree) -> Iterator[tuple[str, str]]:
    """Each slice in the tree's order, with the branch that it hangs on."""
    # What stands before a slice's parts.
    before: dict[str, str] = {}
    for name in tree:
        above = tree.parent(name)
        if above is None:
            before[name] = ""
            yield "", name
            continue
        last = tree.children(above)[-1] == name
        before[name] = before[above] + ("   " if last else "│  ")
        yield before[above] + ("└─ " if last else "├─ "), name
