# SPDX-License-Identifier: Apache-2.0
"""A command that a warm server runs, as `subprocess` would show it."""

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

CHECKOUT = Path(__file__).parents[2]
#: A variable of the environment: whose server to use.
SERVER = "CEILOMETER_PERF_WARM"
#: What shells are given.
COMMANDS = ("ceilometer-perf",)
#: Threads may be the first to ask for a server.
_ONE = threading.Lock()
#: What agents have on their path, so that it needn't be looked through again.
SPOOL = CHECKOUT / "tests" / "functional" / "spool"


class Process:
    """What a test does with a process; see `subprocess.Popen`."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.pid = int(server.recv(64))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; `subprocess.TimeoutExpired` if it has none yet."""
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                self.returncode = int(self._server.recv(64))
            except (TimeoutError, BlockingIOError):
                expired = subprocess.TimeoutExpired(
                    str(self.pid), timeout or 0
                )
                raise expired from None
            self._server.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, if it has one yet."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """As long as it runs."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """By SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(
    argv: Sequence[str | Path],
    *,
    stdin: IO[Any] | int | None = None,
    stdout: IO[Any] | int | None = None,
    stderr: IO[Any] | int | None = None,
    environment: Mapping[str, str] | None = None,
    session: bool = False,
) -> Process:
    """Have a command run, of those that the server knows.

    Streams are files; None is /dev/null. ``session``: of its own.
    """
    request = {
        "argv": [str(word) for word in argv],
        "cwd": str(Path.cwd()),
        "environment": dict(environment or os.environ),
        "session": session,
    }
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _ONE:
        server = _server()
    client.connect(server)
    with open(os.devnull, "r+b") as null:  # noqa: PTH123
        streams = [null if s is None else s for s in (stdin, stdout, stderr)]
        numbers = [s if isinstance(s, int) else s.fileno() for s in streams]
        socket.send_fds(client, [json.dumps(request).encode()], numbers)
        return Process(client)


def run(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """A command's exit code, and what it has printed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(argv, stdout=out, stderr=err, environment=environment)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
        return subprocess.CompletedProcess(argv, code, *texts)


def for_shells(folder: Path) -> dict[str, str]:
    """The environment of a shell to which commands are warm, by such a folder.

    They end with this process, like its server.
    """
    here = f"{sys.executable} -S -m tests.warm"
    for command in COMMANDS:
        path = folder / command
        path.write_text(f'#!/bin/sh\nexec {here} {command} "$@"\n')
        path.chmod(0o755)
    with _ONE:
        server = _server()
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
        SERVER: server.removeprefix("\0"),
    }


@functools.cache
def _server() -> str:
    """The address of this process's server; it ends with this process."""
    if SERVER in os.environ:
        return f"\0{os.environ[SERVER]}"
    name = f"\0ceilometer-perf-warm-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(name)
        listening.listen(64)
        number = listening.fileno()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm.server", str(number)],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(SPOOL)},
            stdin=subprocess.PIPE,
            pass_fds=[number],
            start_new_session=True,
        )
    atexit.register(server.communicate)
    return name
