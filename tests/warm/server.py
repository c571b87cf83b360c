# SPDX-License-Identifier: Apache-2.0
"""Forks itself for each command; ends when its standard input does.

``python -m tests.warm.server FD``, where FD is a listening socket. A client
sends the command with its standard streams, is told the PID, and, once that
is known, the exit code.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cliff.command
import stevedore

MOST = 1 << 20  # bytes of a command
STREAMS = 3
IMPORTED = (
    "ceilometer.cmd.polling",
    "ceilometer.compute.discovery",
    "ceilometer.publisher.messaging",
    "ceilometer_perf.report.page",
    "oslo_messaging",
    "oslo_privsep.daemon",
)
GROUPS = (
    "ceilometer_perf.cli",
    "ceilometer.discover.compute",
    "ceilometer.poll.compute",
)
COMMANDS = {
    "ceilometer-perf": "ceilometer_perf.cli.app:main",
    "ceilometer-polling": "ceilometer.cmd.polling:main",
}

Main = Callable[[], Any]


class Server:
    """Its clients are told of their commands' ends."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._clients: dict[int, socket.socket] = {}
        self._dead, self._signalled = socket.socketpair()
        self._signalled.setblocking(False)
        signal.set_wakeup_fd(
            self._signalled.fileno(), warn_on_full_buffer=False
        )
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> Main:
        """Until the input ends; in a fork for a command, what that does."""
        with selectors.DefaultSelector() as selector:
            for each in (self._listening, self._dead, sys.stdin):
                selector.register(each, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if sys.stdin in ready:
                    return lambda: 0
                if self._dead in ready:
                    self._reap()
                if self._listening in ready and (main := self._accept()):
                    return main

    def _accept(self) -> Main | None:
        """In the fork what it is to do."""
        client, _ = self._listening.accept()
        message, streams, _, _ = socket.recv_fds(client, MOST, STREAMS)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            others = self._clients.values()
            for end in (
                self._listening, self._dead, self._signalled, client, *others,
            ):  # fmt: skip
                end.close()
            return _become(json.loads(message), streams)
        self._clients[pid] = client
        for stream in streams:
            os.close(stream)
        _tell(client, pid)
        return None

    def _reap(self) -> None:
        self._dead.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                client = self._clients.pop(pid)
                _tell(client, os.waitstatus_to_exitcode(status))
                client.close()


def _tell(client: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it may be gone
        client.send(str(number).encode())


def _import() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    for group in GROUPS:
        for point in entry_points(group=group):
            # A command of another package may lack what it needs.
            with contextlib.suppress(ImportError):
                point.load()
    for target in COMMANDS.values():
        importlib.import_module(target.partition(":")[0])
    # These two look through all that is installed, once in a process.
    stevedore.ExtensionManager(GROUPS[0])
    cliff.command._get_distributions_by_modules()
    gc.freeze()


def _become(request: dict[str, Any], streams: list[int]) -> Main:
    if request["session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0)  # noqa: SIM115
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    path = request["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [each for each in path if each and each not in sys.path]
    sys.argv = request["argv"]
    module, _, name = COMMANDS[Path(sys.argv[0]).name].partition(":")
    main: Main = getattr(sys.modules[module], name)
    return main


if __name__ == "__main__":
    listening = socket.socket(fileno=int(sys.argv[1]))
    sys.argv[:] = ["ceilometer-perf"]  # cliff looks when it is imported
    _import()
    sys.exit(Server(listening).serve()())
