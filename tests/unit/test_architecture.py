# SPDX-License-Identifier: Apache-2.0
"""The architecture page and the tree say the same."""

import ast
import functools
import itertools
import pathlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

import ceilometer_perf

PACKAGE = pathlib.Path(ceilometer_perf.__file__).parent
PAGE = PACKAGE.parent / "doc" / "source" / "architecture.rst"
PACKAGES = {
    path.stem
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists())
    and path.stem != "__init__"
}


def layers() -> list[set[str]]:
    """The packages of each layer, the lowest first."""
    text = PAGE.read_text().partition("An import never points up")[2]
    block = text.partition(".. code-block:: text\n\n")[2].partition("\n\n")[0]
    return [set(line.strip().split(", ")) for line in block.split("\n")][::-1]


def package_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def modules() -> list[tuple[str, list[str]]]:
    """Each module's package, and what it imports, by dotted names."""
    return [
        (package_of(path), list(imported(path)))
        for path in PACKAGE.rglob("*.py")
    ]


def imported(path: pathlib.Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(library: str) -> set[str]:
    """The packages with a module that imports a library."""
    return {
        package
        for package, names in modules()
        if library in {name.partition(".")[0] for name in names}
    }


def known_packages(names: list[str]) -> set[str]:
    found = re.findall(r"\bceilometer_perf\.(\w+)", " ".join(names))
    return set(found) & PACKAGES


def test_every_package_is_on_the_page() -> None:
    table = PAGE.read_text().partition("Import rules")[0]
    assert set(re.findall(r"``([a-z_]+)``", table)) >= PACKAGES


def test_every_package_is_on_one_layer() -> None:
    assert sorted(itertools.chain.from_iterable(layers())) == sorted(PACKAGES)


def test_imports_never_point_up() -> None:
    height = {
        package: n for n, layer in enumerate(layers()) for package in layer
    }
    up = [
        f"{package} imports {other}"
        for package, names in modules()
        for other in known_packages(names) - {package}
        if package in height and height[other] >= height[package]
    ]
    assert up == []


def test_who_may_know_whom() -> None:
    assert importers("libvirt") == {"host"}
    assert importers("ceilometer") == {"agent"}
    assert importers("keystoneauth1") == {"openstack"}
    assert importers("nova") == {"nova"}
    assert importers("watcher") == {"watcher"}


def test_the_tables_know_nobody_else() -> None:
    known: defaultdict[str, set[str]] = defaultdict(set)
    for package, names in modules():
        known[package] |= known_packages(names) - {package}
    assert known["events"] == set()
    assert known["meters"] == {"events"}
    assert known["guest"] == {"cpus", "events", "files"}
    assert known["watcher"] == {"meters"}


def test_the_privileged_helpers_load_little() -> None:
    script = "import ceilometer_perf.privsep, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert "ceilometer_perf.host.watching" in loaded
    assert not {"ceilometer_perf.guest", "lxml", "libvirt"} & set(loaded)
