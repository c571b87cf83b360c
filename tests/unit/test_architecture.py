# SPDX-License-Identifier: Apache-2.0
"""The architecture page and the tree say the same."""

import ast
import itertools
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator

import ceilometer_perf

PACKAGE = pathlib.Path(ceilometer_perf.__file__).parent
PAGE = PACKAGE.parent / "doc" / "source" / "architecture.rst"
ROOMS = {
    path.stem
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists())
    and path.stem != "__init__"
}


def floors() -> list[set[str]]:
    """The rooms of each floor, the lowest first."""
    text = PAGE.read_text().partition("An import never points up")[2]
    block = text.partition(".. code-block:: text\n\n")[2].partition("\n\n")[0]
    return [set(line.strip().split(", ")) for line in block.split("\n")][::-1]


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> Iterator[tuple[str, list[str]]]:
    """Each module's room, and what it imports, by dotted names."""
    for path in PACKAGE.rglob("*.py"):
        yield room_of(path), list(imported(path))


def imported(path: pathlib.Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(library: str) -> set[str]:
    """The rooms with a module that imports a library."""
    return {
        room
        for room, names in modules()
        if library in {name.partition(".")[0] for name in names}
    }


def known_rooms(names: list[str]) -> set[str]:
    found = re.findall(r"\bceilometer_perf\.(\w+)", " ".join(names))
    return set(found) & ROOMS


def test_every_room_is_on_the_page() -> None:
    table = PAGE.read_text().partition("Import rules")[0]
    assert set(re.findall(r"``([a-z_]+)``", table)) >= ROOMS


def test_every_room_is_on_one_floor() -> None:
    assert sorted(itertools.chain.from_iterable(floors())) == sorted(ROOMS)


def test_imports_never_point_up() -> None:
    height = {room: n for n, floor in enumerate(floors()) for room in floor}
    up = [
        f"{room} imports {other}"
        for room, names in modules()
        for other in known_rooms(names) - {room}
        if room in height and height[other] >= height[room]
    ]
    assert up == []


def test_who_may_know_whom() -> None:
    assert importers("libvirt") == {"host"}
    assert importers("ceilometer") == {"agent"}
    assert importers("keystoneauth1") == {"openstack"}


def test_the_tables_know_nobody_else() -> None:
    known: defaultdict[str, set[str]] = defaultdict(set)
    for room, names in modules():
        known[room] |= known_rooms(names) - {room}
    assert known["events"] == set()
    assert known["meters"] == {"events"}
    assert known["guest"] == {"events", "files"}
