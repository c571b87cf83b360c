# SPDX-License-Identifier: Apache-2.0
"""The file system from outside: mounted in a lab's folder, and unmounted."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import locks
from tests.lab.errors import LabError
from tests.lab.requirements import find
from tests.lab.resctrl.hardware import Hardware

FOLDER = "resctrl"
SETTINGS = "resctrl.json"
SERVER_PID = "resctrl.pid"

EMULATES = (
    "resctrl: a FUSE file system; CPU time stands in for memory traffic, "
    "and the share of a CPU in use for L3 occupancy"
)
PATIENCE = 10  # seconds


def start(folder: Path, hardware: Hardware) -> None:
    """Mount it in a lab's folder."""
    save(folder, hardware)
    (folder / FOLDER).mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.resctrl.server", str(folder)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.splitlines() or ["no reason"]
        raise LabError(f"resctrl can't be mounted: {lines[-1]}")
    # Answered once it serves, and has its PID file.
    (folder / FOLDER / "tasks").stat()


def end(folder: Path) -> None:
    """Unmount it, whatever has become of its server. Again is fine."""
    pid = locks.holder(folder / SERVER_PID)
    if pid is not None:
        # It unmounts itself, and where it can't, fusermount3 does.
        for signum in (signal.SIGTERM, signal.SIGCONT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
            if signum != signal.SIGTERM and _ended(folder):
                break
    # Not asked of the mount point: without its server that is an error.
    if (folder / SETTINGS).exists():
        _unmount(folder / FOLDER)


def save(folder: Path, hardware: Hardware) -> None:
    """Change what a lab's machine has."""
    hardware.save(folder / SETTINGS)


def hardware(folder: Path) -> Hardware | None:
    """What a lab's machine has; None if it has no resctrl."""
    settings = folder / SETTINGS
    return Hardware.load(settings) if settings.exists() else None


def _ended(folder: Path) -> bool:
    deadline = time.monotonic() + PATIENCE
    while locks.holder(folder / SERVER_PID) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _unmount(mount_point: Path) -> None:
    # Lazily: whoever is in there must not keep the lab from going. Says that
    # it isn't mounted if all went well.
    command = [find("umount", "mount"), "--lazy", str(mount_point)]
    subprocess.run(command, stderr=subprocess.DEVNULL)
