# SPDX-License-Identifier: Apache-2.0
"""Fixtures of several modules, and how several workers share all tests.

One worker runs a module from its beginning to its end.
"""

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.machine import Busy, Machine
from tests.lab.resctrl import mount

#: The longest, begun first: nobody waits for one of them at the end.
LONG = (
    "test_cloud",
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> tuple[int, str]:
    """Long modules first, then the other functional ones."""
    if path.stem in LONG:
        return LONG.index(path.stem), ""
    return len(LONG) + (path.parent.name == "unit"), str(path)


@pytest.fixture(scope="module", autouse=True)
def one_after_the_other(request: pytest.FixtureRequest) -> Iterator[None]:
    """Other workers wait that run a module of those, too."""
    if request.path.stem not in HELPERS:
        yield
        return
    lock = Path(tempfile.gettempdir(), "ceilometer-perf-helpers.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield Machine(tmp_path)
    mount.end(tmp_path)


@pytest.fixture
def busy() -> Iterator[Busy]:
    process = Busy()
    yield process
    process.end()
