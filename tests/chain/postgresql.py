# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL: a cluster in a folder, reached by a socket in it alone."""

import shutil
import signal
from pathlib import Path

from tests.chain.errors import ChainError
from tests.chain.server import Server, run
from tests.lab.requirements import find

PACKAGE = "postgresql"
USER = "postgres"  # it refuses to be root's
ROLE = "service"
DATABASE = "gnocchi"

# A test's data need not survive a power failure.
FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")

# A copy of thousands of files, in memory that goes with the server: on some
# disks it takes longer to remove them than to do all else.
IN_MEMORY = """\
mount -t tmpfs -o mode=755 tmpfs "$2"
cp -a "$1/." "$2"
chown "$3:" "$2"
chmod 700 "$2"
user=$3
shift 3
exec setpriv --pdeathsig INT --reuid="$user" --regid="$user" --init-groups "$@"
"""


class PostgreSQL:
    """Who may use the socket may do all: the folder is the lab's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = _programs()
        settings = [f"-c{each}" for each in (*FAST, "listen_addresses=")]
        self.server = Server(
            "PostgreSQL",
            [self._programs / "postgres", "-D", folder / "data",
             "-k", folder, "-cmax_connections=300", *settings],
            folder / "log",
            ready=self._ready,
            user=USER,
            end=signal.SIGINT,  # which doesn't wait for clients
        )  # fmt: skip

    @property
    def url(self) -> str:
        """The database's, for SQLAlchemy."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={self._folder}"

    @property
    def data(self) -> Path:
        """The cluster; to be copied only while nobody serves it."""
        return self._folder / "data"

    def start(self, prepared: Path | None = None) -> None:
        """Make the cluster, and begin; `create` waits for it.

        ``prepared``: the cluster to have a copy of, instead of a new one; in
        memory.
        """
        self._folder.mkdir()
        shutil.chown(self._folder, USER)
        if prepared is None:
            self._initialise()
        else:
            self._use_copy(prepared)
        self.server.start()

    def _use_copy(self, prepared: Path) -> None:
        self.data.mkdir()
        self.server.user = ""
        self.server.command = [
            find("unshare", "util-linux"), "--mount", "--propagation",
            "private", "sh", "-ec", IN_MEMORY, "sh", prepared, self.data,
            USER, *self.server.command,
        ]  # fmt: skip

    def _initialise(self) -> None:
        initdb = [
            self._programs / "initdb", "-D", self.data, "-U", ROLE,
            "--auth=trust", "--no-sync", "--encoding=UTF8", "--no-locale",
        ]  # fmt: skip
        run("initdb", initdb, user=USER, group=USER, cwd=self._folder)

    def create(self, name: str = DATABASE) -> None:
        """Create a database."""
        self.server.wait()
        run("createdb", [*self._tool("createdb"), "-U", ROLE, name])

    def execute(self, name: str, statement: str) -> None:
        """Have a database do something."""
        words = ["-U", ROLE, "-v", "ON_ERROR_STOP=1", "-c", statement, name]
        run("psql", [*self._tool("psql"), *words])

    def _tool(self, name: str) -> list[str | Path]:
        return [self._programs / name, "-h", self._folder]

    def _ready(self) -> bool:
        try:
            run("pg_isready", self._tool("pg_isready"))
        except ChainError:
            return False
        return True


def _programs() -> Path:
    """Of the newest one that is installed; Debian keeps them off PATH."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(found, key=lambda p: float(p.parts[-3]), default=None)
    if newest is None:
        raise ChainError(f"initdb is missing: apt install {PACKAGE}")
    return newest.parent
