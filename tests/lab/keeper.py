# SPDX-License-Identifier: Apache-2.0
"""A lab's keeper, from outside: started, asked and stopped.

What the keeper itself does is in keep.py.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab import cleaning, processes
from tests.lab.errors import LabError
from tests.lab.requirements import find

READY = "ready"
SOCKET = "keeper.sock"


def start(
    folder: Path, *, owned: bool, hostname: str | None = None
) -> subprocess.Popen[str]:
    """Start the keeper of a lab; it is ready when this returns."""
    command = [find("unshare"), "--mount", "--propagation", "private"]
    command += ["--uts"] if hostname else []
    command += [sys.executable, "-m", "tests.lab.keep", str(folder)]
    if owned:
        command += ["--owner", str(os.getpid())]
    if hostname:
        command += ["--hostname", hostname]
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
    try:
        # On failure the answer is the reason: its folder is gone by now.
        answer = _first_line(keeper)
    except BaseException:
        keeper.kill()
        keeper.wait()
        raise
    if answer != READY:
        keeper.wait()
        reason = answer or _last_line(log) or "its keeper was killed"
        raise LabError(f"no lab in {folder}: {reason}")
    return keeper


def _first_line(keeper: subprocess.Popen[str]) -> str:
    assert keeper.stdout is not None
    with keeper.stdout as answer:
        return answer.readline().strip()


def _last_line(log: Path) -> str:
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


def take_down(folder: Path) -> None:
    """End a lab: by its keeper if it has one, else in the keeper's place."""
    pid = cleaning.keeper_pid(folder)
    # The keeper may be taking the folder away right now.
    with contextlib.suppress(FileNotFoundError):
        if pid is not None:
            _stop(pid, processes.mark_of(folder / "run"))
    cleaning.clear(folder)


def _stop(pid: int, mark: processes.Mark) -> None:
    processes.send(pid, signal.SIGTERM, mark)
    processes.send(pid, signal.SIGCONT, mark)
    if not processes.wait_gone(pid, mark, 20):
        processes.send(pid, signal.SIGKILL, mark)
