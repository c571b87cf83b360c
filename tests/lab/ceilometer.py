# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's configuration, within the tests' own process."""

from pathlib import Path
from unittest import mock

from ceilometer import service
from oslo_config import cfg


def configuration(*files: Path) -> cfg.ConfigOpts:
    """As an agent reads it from these files.

    What the process logs stays where it goes: else a file named there gets
    all that later tests log, and is missed when its folder is gone.
    """
    with mock.patch.object(service.log, "setup"):
        conf: cfg.ConfigOpts = service.prepare_service(
            ["test"], config_files=[str(file) for file in files]
        )
    return conf
