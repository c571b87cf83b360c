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


def main() -> Main:
    """Serve; in a fork for a command, what that does."""
    _import()
    server = socket.socket(fileno=int(sys.argv[1]))
    children: dict[int, socket.socket] = {}
    here, there = socket.socketpair()
    there.setblocking(False)
    signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        for each in (server, here, sys.stdin):
            selector.register(each, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if sys.stdin in ready:
                return lambda: 0
            if here in ready:
                here.recv(4096)
                _reap(children)
            if server in ready:
                client, _ = server.accept()
                request, streams = _receive(client)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for end in (server, here, there, client):
                        end.close()
                    return _become(request, streams)
                children[pid] = client
                for stream in streams:
                    os.close(stream)
                _tell(client, pid)


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


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    message, streams, _, _ = socket.recv_fds(client, MOST, STREAMS)
    return json.loads(message), streams


def _tell(client: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it may be gone
        client.send(str(number).encode())


def _reap(children: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            client = children.pop(pid)
            _tell(client, os.waitstatus_to_exitcode(status))
            client.close()


def _become(request: dict[str, Any], streams: list[int]) -> Main:
    if request["session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0)  # noqa: PTH123, SIM115
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
    sys.exit(main()())
