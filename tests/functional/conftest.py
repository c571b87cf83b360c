# SPDX-License-Identifier: Apache-2.0
"""Fixtures of several modules."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.machine import Busy, Machine
from tests.lab.resctrl import mount


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield Machine(tmp_path)
    mount.end(tmp_path)


@pytest.fixture
def busy() -> Iterator[Busy]:
    process = Busy()
    yield process
    process.end()
