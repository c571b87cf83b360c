# SPDX-License-Identifier: Apache-2.0
"""What others know of a cloud: its folder, and what its keeper says.

Without an import of what the cloud is made of, which takes seconds.
"""

import shutil
from pathlib import Path

from tests.lab import keeper

#: In the folder: the keeper's, the state for programs, and for `openstack`.
PID = "keeper.pid"
STATE = "cloud.json"
CLOUDS = "clouds.yaml"

# The keeper's last line on stdout, or what begins it.
READY = "ready"
FAILED = "failed: "


def remove(folder: Path) -> None:
    """The folder of a cloud that has ended, however it did.

    Its hosts' processes are known by their folders, so they go first.
    """
    for lab in folder.glob("*/lab"):
        keeper.take_down(lab)
    shutil.rmtree(folder, ignore_errors=True)
