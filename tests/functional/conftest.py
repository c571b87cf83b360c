# SPDX-License-Identifier: Apache-2.0
"""Fixtures of several modules, and how several workers share all tests.

One worker runs a module from its beginning to its end, and all modules of a
group.
"""

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import (  # type: ignore[import-untyped]
    LoadScopeScheduling,
)

from tests.functional.machine import Busy, Machine
from tests.lab.placement import Placement, PlacementFixture
from tests.lab.resctrl import mount

#: Modules with a whole cloud each: two at a time take more than twice as long.
CLOUDS = ("test_cloud_slices", "test_cloud", "test_cloud_tool")
#: The longest, begun first: nobody waits for one of them at the end.
LONG = (
    *CLOUDS,
    "test_chain",
    "test_placement",
    "test_gate",
    "test_rdt_agent",
    "test_soak",
    "test_bill",
    "test_gnocchi_dashboards",
    "test_own_counters",
    "test_agent",
    "test_companion",
    "test_kolla",
)
#: Modules in which each looks for the privileged helpers of this host.
HELPERS = ("test_watching", "test_unprivileged", "test_rootwrap")
#: Modules that share a Placement.
PLACEMENT = ("test_placement", "test_placement_choice", "test_placement_sync")
#: By module, what is run by the same worker.
GROUPS = {
    name: group[0] for group in (HELPERS, PLACEMENT, CLOUDS) for name in group
}


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """By module, or by group."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return GROUPS.get(Path(path).stem, path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> tuple[int, str]:
    """Long modules first, then the other functional ones."""
    if path.stem in LONG:
        return LONG.index(path.stem), ""
    return len(LONG) + (path.parent.name == "unit"), str(path)


@pytest.fixture(scope="module", autouse=True)
def one_after_the_other(request: pytest.FixtureRequest) -> Iterator[None]:
    """Other runs on this host wait that have come to one of those, too."""
    if request.path.stem not in HELPERS:
        yield
        return
    lock = Path(tempfile.gettempdir(), "ceilometer-perf-helpers.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def placement() -> Iterator[Placement]:
    """Whoever uses it leaves no provider there."""
    with PlacementFixture() as fixture:
        yield fixture.placement


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield Machine(tmp_path)
    mount.end(tmp_path)


@pytest.fixture
def busy() -> Iterator[Busy]:
    process = Busy()
    yield process
    process.end()
