# SPDX-License-Identifier: Apache-2.0
"""The lab for tests that like fixtures."""

import fixtures

from tests.lab.lab import Lab
from tests.lab.resctrl import Hardware


class LabFixture(fixtures.Fixture):
    """A lab in `.lab` for as long as the fixture is in use."""

    def __init__(
        self, *, fake_pmu: bool = False, resctrl: Hardware | None = None
    ) -> None:
        super().__init__()
        self.lab = Lab(fake_pmu=fake_pmu, resctrl=resctrl)

    def _setUp(self) -> None:  # noqa: N802
        self.addCleanup(self.lab.down)
        self.lab.up()
