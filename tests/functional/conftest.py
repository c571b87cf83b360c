# SPDX-License-Identifier: Apache-2.0
"""Fixtures of several modules, and how several workers share all tests.

Each module is a group, which one worker runs from its beginning to its end.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.machine import Busy, Machine
from tests.lab.resctrl import mount

#: The longest, begun first: nobody waits for one of them at the end.
LONG = (
    "test_chain",
    "test_gnocchi_dashboards",
    "test_soak",
    "test_rdt_agent",
    "test_gate",
    "test_bill",
    "test_agent",
    "test_companion",
    "test_kolla",
)
#: Modules in which each looks for the privileged helpers of this host.
HELPERS = ("test_watching", "test_unprivileged", "test_rootwrap")


def pytest_itemcollected(item: pytest.Item) -> None:
    name = "helpers" if item.path.stem in HELPERS else item.path.stem
    item.add_marker(pytest.mark.xdist_group(name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> tuple[int, str]:
    """Long modules first, then the other functional ones."""
    if path.stem in LONG:
        return LONG.index(path.stem), ""
    if path.stem in HELPERS:
        return len(LONG), ""
    return len(LONG) + (2 if path.parent.name == "unit" else 1), str(path)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield Machine(tmp_path)
    mount.end(tmp_path)


@pytest.fixture
def busy() -> Iterator[Busy]:
    process = Busy()
    yield process
    process.end()
