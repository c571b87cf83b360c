# SPDX-License-Identifier: Apache-2.0
"""The architecture page and the tree say the same."""

import ast
import pathlib
import re
from collections.abc import Iterator

import ceilometer_perf

PACKAGE = pathlib.Path(ceilometer_perf.__file__).parent
PAGE = PACKAGE.parent / "doc" / "source" / "architecture.rst"


def importers(library: str) -> Iterator[str]:
    """The rooms with a module that imports a library."""
    for path in PACKAGE.rglob("*.py"):
        if library in set(imported(path)):
            yield path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: pathlib.Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from (name.partition(".")[0] for name in names)


def test_every_room_is_on_the_page() -> None:
    rooms = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists())
        and path.stem != "__init__"
    }
    table = PAGE.read_text().partition("Who may know whom")[0]
    assert rooms <= set(re.findall(r"``([a-z_]+)``", table))


def test_who_may_know_whom() -> None:
    assert set(importers("libvirt")) == {"host"}
    assert set(importers("ceilometer")) <= {"pollsters", "discovery"}
    assert set(importers("keystoneauth1")) == {"keystone"}
