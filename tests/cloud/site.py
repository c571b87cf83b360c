# SPDX-License-Identifier: Apache-2.0
"""Where everything of a cloud is, and how configuration files say so."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chain.server import LOOPBACK

BIN = Path(sys.executable).parent
ETC = BIN.parent / "etc"  # where wheels put their paste files
REGION = "RegionOne"
ADMIN = "admin"
#: The one user that all services have, its project, and its password.
SERVICE = "service"
#: The ordinary user, his project, and his password.
DEMO = "demo"

#: By service: its type in the catalog, and what its URL ends in.
CATALOG: Mapping[str, tuple[str, str]] = {
    "keystone": ("identity", "/v3"),
    "glance": ("image", ""),
    "placement": ("placement", ""),
    "nova": ("compute", "/v2.1"),
    "neutron": ("network", ""),
    "gnocchi": ("metric", ""),
    "aetos": ("metric-storage", ""),
    "aodh": ("alarming", ""),
    "watcher": ("infra-optim", ""),
}
#: Those that only a cloud with Prometheus has.
ON_PROMETHEUS = ("aetos", "aodh", "watcher")

Sections = Mapping[str, Mapping[str, object]]


def ini(sections: Sections) -> str:
    """The text of an oslo.config file."""
    return "".join(
        f"[{name}]\n"
        + "".join(f"{key} = {value}\n" for key, value in options.items())
        for name, options in sections.items()
    )


@dataclass(frozen=True)
class Site:
    """The folder that all is in, the port of each API, and the broker.

    ``interval``: seconds between two polling cycles; ``prometheus``: its
    port, none if 0.
    """

    folder: Path
    ports: Mapping[str, int]
    transport: str
    interval: int = 5
    prometheus: int = 0

    def url(self, service: str) -> str:
        """Of a service's API, as the catalog has it."""
        port, suffix = self.ports[service], CATALOG[service][1]
        return f"http://{LOOPBACK}:{port}{suffix}"

    def at(self, *parts: str) -> Path:
        """A path in the folder."""
        return self.folder.joinpath(*parts)

    def auth(self, user: str = SERVICE) -> dict[str, object]:
        """keystoneauth1's options of a user who is at home in his project."""
        return {
            "auth_type": "password",
            "auth_url": self.url("keystone"),
            "username": user,
            "password": user,
            "project_name": user,
            "user_domain_id": "default",
            "project_domain_id": "default",
            "region_name": REGION,
        }

    def authtoken(self) -> dict[str, object]:
        """Of ``[keystone_authtoken]``: who checks tokens, and where."""
        return {
            "www_authenticate_uri": self.url("keystone"),
            "interface": "public",
            "service_token_roles_required": True,
            **self.auth(),
        }

    @property
    def environment(self) -> dict[str, str]:
        """What every service gets.

        A database's URL names the database alone: libpq has the rest from
        here, so that what is prepared once fits every folder.
        """
        return {
            "PGHOST": str(self.at("postgresql")),
            "PGUSER": SERVICE,
            "PYTHONWARNINGS": "ignore",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
        }


def database(name: str) -> str:
    """The URL of a database, for SQLAlchemy."""
    return f"postgresql+psycopg2:///{name}"
