# SPDX-License-Identifier: Apache-2.0
"""What others know of a cloud: its folder, and what its keeper says.

Without an import of what the cloud is made of, which takes seconds.
"""

import shutil
from pathlib import Path

#: In the folder: the keeper's, the state for programs, and for `openstack`.
PID = "keeper.pid"
STATE = "cloud.json"
CLOUDS = "clouds.yaml"

# The keeper's last line on stdout, or what begins it.
READY = "ready"
FAILED = "failed: "


def remove(folder: Path) -> None:
    """The folder of a cloud that has ended."""
    shutil.rmtree(folder, ignore_errors=True)
