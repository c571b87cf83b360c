# SPDX-License-Identifier: Apache-2.0
"""The services' databases, made once for an environment, and then copied.

To make them takes a minute and more; to copy them, a second.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chain.errors import ChainError
from tests.chain.postgresql import PostgreSQL
from tests.chain.server import last_words
from tests.cloud import services
from tests.cloud.site import (
    ADMIN,
    BIN,
    CATALOG,
    REGION,
    SERVICE,
    Site,
    database,
)

PLACE = BIN.parent / "cloud"
# A process of its own: to import it takes seconds.
NEUTRON_SCHEMA = Path(__file__).with_name("neutron_schema.py")
DATABASES = (
    "keystone", "glance", "placement", "neutron", "nova", "nova_api",
    "nova_cell0", "gnocchi", "aodh", "watcher",
)  # fmt: skip
MADE_OF = (
    "keystone", "glance", "openstack-placement", "neutron", "nova", "gnocchi",
    "aodh", "python-watcher",
)  # fmt: skip

#: Filled in by Nova from its own transport_url.
ANY_BROKER = "{scheme}://{username}:{password}@{hostname}:{port}/"

#: Who has which role at home. Nova's requests for others take the latter.
USERS = ((ADMIN, ADMIN), (SERVICE, ADMIN), (SERVICE, SERVICE))

Commands = Sequence[Sequence[object]]


@dataclass(frozen=True)
class Prepared:
    """What is made once: the cluster, and what Gnocchi's storage begins with.

    Nobody serves either of them.
    """

    folder: Path

    @property
    def cluster(self) -> Path:
        """Of PostgreSQL."""
        return self.folder / "data"

    @property
    def storage(self) -> Path:
        """Of Gnocchi."""
        return self.folder / "storage"


def databases() -> Prepared:
    """All of them, made if need be.

    :raises ChainError: a service's own command failed.
    """
    found = PLACE / _stamp()
    PLACE.mkdir(exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        if not found.exists():
            _make_in(found)
    return Prepared(found)


def _make_in(place: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".", dir=PLACE) as folder:
        Path(folder).chmod(0o755)
        _make(Path(folder)).rename(place)


def _stamp() -> str:
    """Another one whenever the databases would be others."""
    try:
        versions = [f"{n} {importlib.metadata.version(n)}" for n in MADE_OF]
    except importlib.metadata.PackageNotFoundError as error:
        raise ChainError(
            f"{error.name} is missing: pip install -e '.[cloud]'"
        ) from None
    ours = [path.read_bytes() for path in (NEUTRON_SCHEMA, Path(__file__))]
    whole = b"\n".join([*map(str.encode, versions), *ours])
    return hashlib.sha256(whole).hexdigest()[:16]


def _make(folder: Path) -> Path:
    # No port and no broker is asked of.
    site = Site(folder, dict.fromkeys(CATALOG, 1), "rabbit://u:p@localhost:1/")
    services.configure(site)
    postgresql = PostgreSQL(folder / "postgresql")
    postgresql.start()
    try:
        for name in DATABASES:
            postgresql.create(name)
        _run_all(site, _commands(site))
    finally:
        postgresql.server.stop()
    made = folder / "made"
    made.mkdir()
    postgresql.data.rename(made / "data")
    site.at("gnocchi", "storage").rename(made / "storage")
    return made


def _run_all(site: Site, chains: Sequence[Commands]) -> None:
    """Each chain's commands one after another, all chains side by side."""
    script = [" && ".join(_quoted(c) for c in chain) for chain in chains]
    environment = {**os.environ, **site.environment}
    running = [
        subprocess.Popen(
            ["sh", "-c", line], env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for line in script
    ]  # fmt: skip
    failed = []
    for process, line in zip(running, script, strict=True):
        said, _ = process.communicate()
        if process.returncode:
            failed.append(f"{line.split()[0]}: {last_words(said)}")
    if failed:
        raise ChainError("; ".join(failed))


def _quoted(command: Sequence[object]) -> str:
    return shlex.join(map(str, command))


def _commands(site: Site) -> Sequence[Commands]:
    nova: list[object] = [BIN / "nova-manage"]
    for name in ("nova.conf", "databases.conf"):
        nova += ["--config-file", site.at("nova", name)]

    def manage(program: str, config: str, *words: object) -> list[object]:
        return [BIN / program, "--config-file", site.at(config), *words]

    keystone = "keystone/keystone.conf"
    users = [
        manage(
            "keystone-manage", keystone, "bootstrap",
            "--bootstrap-username", user, "--bootstrap-password", user,
            "--bootstrap-project-name", user, "--bootstrap-role-name", role,
            "--bootstrap-public-url", site.url("keystone"),
            "--bootstrap-region-id", REGION,
        )
        for user, role in USERS
    ]  # fmt: skip
    return [
        [manage("keystone-manage", keystone, "db_sync"), *users],
        [manage("glance-manage", "glance/glance-api.conf", "db_sync"),
         manage("placement-manage", "placement/placement.conf", "db", "sync"),
         [sys.executable, NEUTRON_SCHEMA, database("neutron")]],
        [[*nova, "api_db", "sync"],
         [*nova, "cell_v2", "map_cell0", "--database_connection",
          database("nova_cell0")],
         [*nova, "db", "sync"],
         [*nova, "cell_v2", "create_cell", "--name", "cell1",
          "--database_connection", database("nova"),
          "--transport-url", ANY_BROKER]],
        [[BIN / "gnocchi-upgrade", "--config-file",
          site.at("gnocchi", "gnocchi.conf"), "--sacks-number", "2"],
         manage("aodh-dbsync", "aodh/aodh.conf"),
         manage("watcher-db-manage", "watcher/watcher.conf",
                "create_schema")],
    ]  # fmt: skip
