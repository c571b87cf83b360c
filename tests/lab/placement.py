# SPDX-License-Identifier: Apache-2.0
"""The real Placement: its own process on loopback, its data in a file.

Everything that it decides is Placement's own code. Whoever shows ``TOKEN`` is
an administrator.

SQLite ends a transaction that has read, and now wants to write, if another
one wrote meanwhile. That is a 500 with ``LOCKED`` in it, which servers of
databases don't give: who writes at the same time as others asks again.
"""

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import fixtures
import requests

from tests.lab.errors import LabError

TOKEN = "admin"  # noqa: S105
#: Requests that it works on at one time.
THREADS = 8
#: Seconds until it must have made its database, and until it must serve.
PATIENCE = 60.0

LOCKED = "database is locked"

# What waits for another's write waits for seconds, and does not fail. Nobody
# waits for the disk: the data need not survive the machine.
_CONF = """
[api]
auth_strategy = noauth2
[placement_database]
connection = sqlite:///{database}?timeout=60
sqlite_synchronous = false
"""


class Placement:
    """A Placement with nothing in it yet; ``url`` once it is up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = folder / "placement.sqlite"
        self.log = folder / "placement.log"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Make its database and start it; returns when it serves."""
        conf = self.folder / "placement.conf"
        conf.write_text(_CONF.format(database=self._database))
        manage = Path(sysconfig.get_path("scripts")) / "placement-manage"
        made = self._start(manage, "--config-file", conf, "db", "sync")
        if made.wait(PATIENCE):
            raise self._failed("placement-manage db sync")
        # Who only reads does not wait for who writes.
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        # It is there from now on, and answers when Placement does.
        with socket.create_server(("127.0.0.1", 0)) as door:
            self._process = self._start(
                sys.executable, "-m", "tests.lab.placement_server",
                str(door.fileno()), str(THREADS), pass_fds=[door.fileno()],
            )  # fmt: skip
            self.url = f"http://127.0.0.1:{door.getsockname()[1]}"
        try:
            requests.get(self.url, timeout=PATIENCE).raise_for_status()
        except requests.RequestException as error:
            raise self._failed("Placement") from error

    def _start(
        self, *command: str | Path, pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                command,
                env={
                    **os.environ,
                    "OS_PLACEMENT_CONFIG_DIR": str(self.folder),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )

    def _failed(self, what: str) -> LabError:
        words = " ".join(self.log.read_text().splitlines()[-3:])
        return LabError(f"{what} failed: {words}")

    def down(self) -> None:
        """End it; its folder stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def nova_conf(self) -> str:
        """``[placement]`` of a nova.conf that leads here."""
        return (
            "[placement]\nauth_type = admin_token\n"
            f"endpoint = {self.url}\ntoken = {TOKEN}\n"
        )


class PlacementFixture(fixtures.Fixture):
    """A Placement for as long as the fixture is in use."""

    placement: Placement

    def _setUp(self) -> None:  # noqa: N802
        folder = self.useFixture(fixtures.TempDir()).path
        self.placement = Placement(Path(folder))
        self.addCleanup(self.placement.down)
        self.placement.up()
