# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ: a node with its own name, folder, ports and port mapper."""

from pathlib import Path
from typing import Any

import amqp.exceptions  # type: ignore[import-untyped]
from kombu.connection import Connection

from tests.chain.errors import ChainError
from tests.chain.server import LOOPBACK, Server, free_ports, listens
from tests.lab.requirements import find

PACKAGE = "rabbitmq-server"
# Debian's command in /usr/sbin would be the system's own node's.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

# Little for little: one scheduler, no busy waiting, no listening to others.
ERLANG = (
    "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
    " -kernel inet_dist_use_interface {127,0,0,1}"
)
#: Samples of polling agents, on their way to the notification agent.
SAMPLES = "notifications.sample"


def takes_samples(transport: str) -> bool:
    """Whether somebody does; until then the broker drops them."""
    url = transport.replace("rabbit://", "amqp://", 1)
    try:
        # kombu has types for some of it only.
        opened: Any = Connection(url, connect_timeout=5)  # type: ignore[no-untyped-call]
        with opened as connection:
            queue = connection.default_channel.queue_declare(
                SAMPLES, passive=True
            )
    except (amqp.exceptions.NotFound, OSError):
        return False
    return bool(queue.consumer_count)


class RabbitMQ:
    """As guest/guest on a port of its own."""

    def __init__(self, folder: Path) -> None:
        if not PROGRAM.exists():
            raise ChainError(
                f"rabbitmq-server is missing: apt install {PACKAGE}"
            )
        self._folder = folder
        self.port, distribution, mapper = free_ports(3)
        environment = {
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(mapper),
            "HOME": str(folder),  # for the cookie
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": "chain@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            # No shell between it and us, that would take signals.
            "detached": "yes",
        }
        # Else the node starts one that outlives it.
        self._mapper = Server(
            "epmd",
            [find("epmd", PACKAGE), "-port", str(mapper),
             "-address", LOOPBACK],
            folder / "epmd.out",
            ready=lambda: listens(mapper),
        )  # fmt: skip
        self.server = Server(
            "RabbitMQ",
            [PROGRAM],
            folder / "out",
            ready=lambda: listens(self.port),
            environment=environment,
        )

    @property
    def url(self) -> str:
        """For ``transport_url``."""
        return f"rabbit://guest:guest@{LOOPBACK}:{self.port}/"

    def start(self) -> None:
        """Begin; `server.wait` returns when it serves."""
        self._folder.mkdir()
        (self._folder / "enabled_plugins").write_text("[].\n")
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = {LOOPBACK}:{self.port}\n"
        )
        self._mapper.start()
        self._mapper.wait()
        self.server.start()

    def stop(self) -> None:
        """End it. Again is fine."""
        self.server.stop()
        self._mapper.stop()
