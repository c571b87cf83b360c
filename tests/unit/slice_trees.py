# SPDX-License-Identifier: Apache-2.0
"""Trees of slices for tests."""

import json
from collections.abc import Iterable
from pathlib import Path

from ceilometer_perf.slices.spec import SliceSpec
from ceilometer_perf.slices.tree import Tree

#: A slice's name, the end of its class, and its parent.
Row = tuple[str, str, str | None]


def specs(rows: Iterable[Row]) -> tuple[SliceSpec, ...]:
    return tuple(
        SliceSpec(name, f"CUSTOM_{end}", f"/{name}.xml", parent)
        for name, end, parent in rows
    )


def tree(rows: Iterable[Row]) -> Tree:
    return Tree(specs(rows))


def write_nova_conf(conf: Path, rows: Iterable[Row], *more: str) -> None:
    """``more``: lines of [DEFAULT], and sections after it."""
    default, *sections = more or ("",)
    lines = ["[DEFAULT]", default, *sections, "[libvirt]"]
    for name, end, parent in rows:
        template = conf.with_name(f"{name}.xml")
        template.write_text("<domain/>")
        entry = {
            "name": name,
            "resource_class": f"CUSTOM_{end}",
            "template_file": template.name,
        } | ({"conflict_parent": parent} if parent else {})
        lines.append(f"slice_spec = {json.dumps(entry)}")
    conf.write_text("\n".join(lines) + "\n")


def parts(count: int, end: str, parent: str) -> list[Row]:
    """So many equal parts of a slice."""
    return [(f"{parent}-{n}", end, parent) for n in range(1, count + 1)]


#: A host of eight accelerators: the whole, two halves, eight singles.
EIGHT: list[Row] = [
    ("8_1", "SLICE_8", None),
    *(row for half in parts(2, "SLICE_4", "8_1") for row in (half,)),
    *parts(4, "SLICE_1", "8_1-1"),
    *parts(4, "SLICE_1", "8_1-2"),
]

#: One level: nothing overlaps.
FLAT: list[Row] = [("a", "BIG", None), ("b", "BIG", None), ("c", "ODD", None)]

#: Two levels: several roots, parts of several classes, a root without parts.
MIXED: list[Row] = [
    ("left", "HALF", None),
    *parts(2, "QUARTER", "left"),
    ("right", "HALF", None),
    *parts(2, "QUARTER", "right"),
    ("odd", "ODD", None),
    ("odd-big", "BIG", "odd"),
    ("odd-small", "SMALL", "odd"),
    ("odd-quarter", "QUARTER", "odd"),
    ("single", "SMALL", None),
]

#: Three levels twice, alike but for the class of the roots.
TWINS: list[Row] = [
    row
    for root in ("A", "B")
    for row in [
        (root, f"WHOLE_{root}", None),
        *parts(2, "HALF", root),
        *parts(2, "QUARTER", f"{root}-1"),
        *parts(2, "QUARTER", f"{root}-2"),
    ]
]

#: Four levels, and parts without parts at each of them.
DEEP: list[Row] = [
    ("8", "EIGHT", None),
    ("8-1", "FOUR_A", "8"),
    *parts(2, "TWO", "8-1"),
    *parts(2, "ONE", "8-1-1"),
    *parts(2, "ONE", "8-1-2"),
    ("8-2", "FOUR_B", "8"),
    ("8-2-1", "TWO", "8-2"),
    *parts(2, "ONE", "8-2-1"),
    *((f"8-2-{n}", "ONE", "8-2") for n in (2, 3)),
    ("8-3", "THREE", "8"),
]

ALL = {
    "eight": EIGHT, "flat": FLAT, "mixed": MIXED, "twins": TWINS, "deep": DEEP,
}  # fmt: skip
