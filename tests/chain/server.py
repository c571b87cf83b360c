# SPDX-License-Identifier: Apache-2.0
"""A server of our own: started, awaited, stopped, killed.

Nothing is asked of the host's services, and none is touched: each server has
its own data, configuration and ports, and is a child of this process.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.chain.errors import ChainError
from tests.lab.requirements import find

LOOPBACK = "127.0.0.1"
PATIENCE = 60.0  # seconds; two cores start all of the servers at a time
STOPPING = 15.0  # seconds
LAST_WORDS = 5  # lines of its log
#: Below those that Linux gives to whoever connects (ip_local_port_range):
#: one of them may be a client's before the server listens.
PORTS = range(20_000, 32_768)
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback interface that nobody listens on."""
    ports: list[int] = []
    while len(ports) < count:
        port = secrets.choice(PORTS)
        if port not in _given and _is_free(port):
            _given.add(port)
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as server, contextlib.suppress(OSError):
        server.bind((LOOPBACK, port))
        return True
    return False


def listens(port: int) -> bool:
    """Whether somebody does on this port of the loopback interface."""
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0


def run(what: str, command: Sequence[object], **options: object) -> str:
    """Run a command to its end, and return its output.

    ChainError, with what it said last, if it fails.
    """
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        words = last_words(done.stderr or done.stdout)
        raise ChainError(f"{what} failed: {words}")
    return str(done.stdout)


def last_words(log: str) -> str:
    """The end of what a process said, in one line."""
    lines = [line for line in log.splitlines() if line.strip()]
    return " / ".join(lines[-LAST_WORDS:]) or "it said nothing"


@dataclass
class Server:
    """One process, with what it starts itself.

    ``ready`` tells whether it serves; ``user`` is whose it is, root's if
    none; ``end`` is the signal that ends it in the orderly way. The log is
    what it writes to stdout and stderr.
    """

    name: str
    command: Sequence[object]
    log: Path
    ready: Callable[[], bool]
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    end: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin; `wait` returns when it serves.

        Only from a thread that stays: the kernel ends the server with it.
        """
        # Not of our session, so that a terminal's Ctrl-C is for us alone:
        # what ends a server is `stop`, or our own end.
        command = [find("setpriv", "util-linux"), "--pdeathsig"]
        command += [self.end.name.removeprefix("SIG")]
        if self.user:
            command += [f"--reuid={self.user}", f"--regid={self.user}"]
            command += ["--init-groups"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *map(str, self.command)],
                cwd=self.log.parent,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds: float = PATIENCE) -> None:
        """Return when it serves; ChainError if it doesn't come to it."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while True:
            # First: if its port was taken, somebody serves there.
            if self.process.poll() is not None:
                raise ChainError(f"{self.name} ended: {self.last_words()}")
            if self.ready():
                return
            if time.monotonic() > deadline:
                raise ChainError(
                    f"{self.name} does not serve within {seconds:.0f} s: "
                    f"{self.last_words()}"
                )
            time.sleep(0.1)

    def last_words(self) -> str:
        """The end of its log, in one line."""
        if not self.log.exists():
            return "it left no log"
        return last_words(self.log.read_text(errors="replace"))

    def send(self, signum: signal.Signals) -> None:
        """To it, and all that it started; it is gone after SIGKILL."""
        assert self.process is not None
        os.killpg(self.process.pid, signum)
        if signum == signal.SIGKILL:
            self.process.wait()

    def stop(self) -> None:
        """End it, and all that it started. Again is fine."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(self.end)
        try:
            self.process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # It leads a process group; who is left in it is ours as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None
