# SPDX-License-Identifier: Apache-2.0
"""A lab's keeper, from outside: started, asked and stopped.

What the keeper itself does is in keep.py.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab import processes
from tests.lab.errors import LabError
from tests.lab.requirements import find

READY = "ready"
SOCKET = "keeper.sock"


def start(folder: Path, *, owned: bool) -> subprocess.Popen[str]:
    """Start the keeper of a lab; it is ready when this returns."""
    command = [find("unshare"), "--mount", "--propagation", "private"]
    command += [sys.executable, "-m", "tests.lab.keep", str(folder)]
    if owned:
        command += ["--owner", str(os.getpid())]
    log = folder / "keeper.log"
    with log.open("w") as errors:
        # A session of its own: the terminal's Ctrl-C is for the owner.
        keeper = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert keeper.stdout is not None
    with keeper.stdout as answer:
        # On failure the answer is the reason: its folder is gone by now.
        line = answer.readline().strip()
    if line != READY:
        keeper.wait()
        reason = line or log_of(folder) or "its keeper was killed"
        raise LabError(f"no lab in {folder}: {reason}")
    return keeper


def log_of(folder: Path) -> str:
    """The last line that the keeper had to complain about."""
    log = folder / "keeper.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return lines[-1] if lines else ""


def run(folder: Path, command: Sequence[str | Path]) -> tuple[int, str]:
    """Run a command in the lab: its exit code, and what it complained of."""
    with socket.socket(socket.AF_UNIX) as keeper:
        keeper.connect(str(folder / SOCKET))
        with keeper.makefile("rw") as line:
            print(json.dumps([str(word) for word in command]), file=line)
            line.flush()
            code, stderr = json.loads(line.readline())
    return code, stderr


def stop(pid: int, folder: Path) -> None:
    """Have a keeper clear its lab away; force it if it hangs."""
    mark = processes.mark_of(folder / "run")
    processes.send(pid, signal.SIGTERM, mark)
    processes.send(pid, signal.SIGCONT, mark)
    if not processes.wait_gone(pid, mark, 20):
        processes.send(pid, signal.SIGKILL, mark)
