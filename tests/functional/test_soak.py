# SPDX-License-Identifier: Apache-2.0
"""Short versions of what tools/soak.sh does for minutes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.soak.row import Run
from tests.soak.scenarios import SCENARIOS


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Lab(fake_pmu=True) as lab:
        yield Run(lab, tmp_path / "agent", lambda text: None)


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_amiss(name: str, run: Run) -> None:
    row = SCENARIOS[name].short(run)
    assert row.amiss == ()
    assert row.untrue == 0
