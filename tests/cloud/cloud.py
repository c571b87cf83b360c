# SPDX-License-Identifier: Apache-2.0
"""All of it: brought up as far as can be side by side, and ended."""

import contextlib
import json
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import yaml

from tests.chain.agents import ETC as CEILOMETER
from tests.chain.agents import MESSAGING, Notification
from tests.chain.errors import ChainError
from tests.chain.postgresql import PostgreSQL
from tests.chain.prometheus import Prometheus
from tests.chain.rabbitmq import RabbitMQ, takes_samples
from tests.chain.server import Server, free_ports, listens, run
from tests.cloud import prepared, services
from tests.cloud.compute import Compute
from tests.cloud.folder import CLOUDS, STATE
from tests.cloud.identity import Identity
from tests.cloud.metric import POLICY, Metric
from tests.cloud.prepared import Prepared
from tests.cloud.site import (
    ADMIN,
    BIN,
    CATALOG,
    DEMO,
    ON_PROMETHEUS,
    Site,
    ini,
)

PATIENCE = 180.0  # seconds; a loaded machine takes long to import it all
#: Of Prometheus's rules, instead of minutes.
WINDOW = "10s"


class Cloud:
    """Ends with its block; all that it has on disk is in its folder."""

    def __init__(
        self,
        folder: Path,
        *,
        computes: int = 1,
        interval: int = 5,
        options: Mapping[str, str] | None = None,
        prometheus: bool = False,
        record: bool = False,
        stored: Sequence[str] | None = None,
        step: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``computes``: hosts; ``interval``: of polling, in seconds.

        ``options``: of ``[libvirt]`` in nova.conf of the hosts;
        ``prometheus``: have one that asks their agents, and what asks it:
        Aetos, Aodh, and Watcher once it is started; ``record``: keep all
        that the agents send; ``stored``: the meters that Gnocchi gets, all of
        ours if none are named.
        """
        self.folder = folder
        self._step = step
        self._stored = stored
        self._stack = contextlib.ExitStack()
        self.rabbitmq = RabbitMQ(folder / "rabbitmq")
        names = [n for n in CATALOG if prometheus or n not in ON_PROMETHEUS]
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.site = Site(
            folder, ports, self.rabbitmq.url, interval,
            prometheus=free_ports(1)[0] if prometheus else 0,
        )  # fmt: skip
        self.computes = [
            Compute(self.site, number, options or {}, record=record)
            for number in range(1, computes + 1)
        ]
        #: Where there is one.
        self.prometheus: Prometheus
        self.identity = Identity(self.site)
        self.notification: Server
        self.servers: list[Server] = []

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _up(self) -> None:
        for name, port in self.site.ports.items():
            if listens(port):
                raise ChainError(f"{name}-api: port {port} is taken")
        self._step("Preparing databases (a minute or two, once)")
        databases = prepared.databases()
        self._step("Starting PostgreSQL, RabbitMQ and Keystone")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # agents have no privilege
        services.configure(self.site)
        self._start_ground(databases)
        self._start(
            *(services.api(self.site, name) for name in services.APIS
              if name in self.site.ports)
        )  # fmt: skip
        self._step("Starting libvirtd on each host")
        for compute in self.computes:
            self._stack.callback(compute.stop)
            compute.start_libvirtd()
        self._wait("keystone-api")
        self.identity.register()
        self._step("Starting Nova, Glance, Placement, Neutron and Gnocchi")
        gnocchi = services.gnocchi(self.site)
        conductor, scheduler = (
            services.worker(self.site, n)
            for n in ("nova-conductor", "nova-scheduler")
        )
        self._start(*gnocchi, conductor, scheduler)
        if self.site.prometheus:
            self._start_prometheus()
        self._wait("nova-conductor")
        self._step("Starting nova-compute and the polling agents")
        for compute in self.computes:
            self._start(*compute.servers())
        self._start_notification()
        self._step("Waiting for all of it")
        for server in self.servers:
            server.wait(PATIENCE)
        self.identity.wait_for_hosts([c.name for c in self.computes])
        self._write_state()

    def _start_ground(self, databases: Prepared) -> None:
        postgresql = PostgreSQL(self.folder / "postgresql")
        self._stack.callback(postgresql.server.stop)
        postgresql.start(databases.cluster)
        shutil.copytree(databases.storage, self.site.at("gnocchi", "storage"))
        self.servers.append(postgresql.server)
        self._stack.callback(self.rabbitmq.stop)
        self.rabbitmq.start()
        self.servers.append(self.rabbitmq.server)
        postgresql.server.wait()
        # The one that was there when the databases were made. Services ask
        # the catalog for Keystone, too, from their first request on.
        url = self.site.url("keystone")
        statement = f"UPDATE endpoint SET url = '{url}'"  # noqa: S608
        postgresql.execute("keystone", statement)

    def _start(self, *servers: Server) -> None:
        for server in servers:
            self._stack.callback(server.stop)
            server.start()
            self.servers.append(server)

    def _start_prometheus(self) -> None:
        self.prometheus = Prometheus(
            self.site.at("prometheus"),
            {each.name: each.exporter for each in self.computes},
            port=self.site.prometheus,
            window=WINDOW,
        )
        self._stack.callback(self.prometheus.server.stop)
        self.prometheus.start()
        self.servers.append(self.prometheus.server)
        self._start(services.evaluator(self.site))

    def start_watcher(self) -> None:
        """Its API is there, in a cloud with Prometheus."""
        servers = services.watcher(self.site)
        self._start(*servers)
        for server in servers:
            server.wait(PATIENCE)

    def _wait(self, name: str) -> None:
        next(s for s in self.servers if s.name == name).wait(PATIENCE)

    def _start_notification(self) -> None:
        folder = self.notification_conf.parent
        folder.mkdir()
        mapping = folder / "gnocchi_resources.yaml"
        self._wait("gnocchi-api")
        Metric(self.identity.admin).add_policy()
        Notification.map_meters(mapping, POLICY["name"], POLICY["name"])
        pipeline = yaml.safe_load((CEILOMETER / "pipeline.yaml").read_text())
        for sink in pipeline["sinks"]:
            sink["publishers"] = [
                f"gnocchi://?resources_definition_file={mapping}"
            ]
        if self._stored is not None:
            for source in pipeline["sources"]:
                source["meters"] = list(self._stored)
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
        config = self.notification_conf
        config.write_text(ini(self._ceilometer(folder)))
        upgrade = [BIN / "ceilometer-upgrade", "--config-file", config]
        run("ceilometer-upgrade", upgrade, cwd=folder)
        self.notification = Server(
            "ceilometer-agent-notification",
            [BIN / "ceilometer-agent-notification", "--config-file", config,
             "--config-file", MESSAGING],
            folder / "ceilometer-agent-notification.log",
            ready=lambda: takes_samples(self.site.transport),
            environment=self.site.environment,
            end=signal.SIGKILL,
        )  # fmt: skip
        self._start(self.notification)

    @property
    def notification_conf(self) -> Path:
        """What the notification agent reads."""
        return self.folder / "notification" / "ceilometer.conf"

    def _ceilometer(self, folder: Path) -> dict[str, dict[str, object]]:
        return {
            "DEFAULT": {
                "transport_url": self.site.transport,
                "pipeline_cfg_file": folder / "pipeline.yaml",
            },
            "notification": {"pipelines": "meter"},
            "service_credentials": {
                **self.site.auth(),
                "interface": "public",
            },
        }

    # For people, and for other processes

    def _write_state(self) -> None:
        clouds = {
            user: {
                "auth": {
                    key: value
                    for key, value in self.site.auth(user).items()
                    if key not in ("auth_type", "region_name")
                },
                "region_name": self.site.auth()["region_name"],
                "compute_api_version": "2.95",
            }
            for user in (ADMIN, DEMO)
        }
        (self.folder / CLOUDS).write_text(yaml.safe_dump({"clouds": clouds}))
        (self.folder / STATE).write_text(json.dumps(self.state(), indent=2))

    def state(self) -> dict[str, object]:
        """What a person who comes later must know."""
        return {
            "servers": {
                s.name: {"pid": s.process and s.process.pid, "log": str(s.log)}
                for s in self.servers
            },
            "hosts": {
                c.name: {
                    "exporter": c.exporter,
                    "uri": c.lab.uri_ro,
                    "emulated": list(c.lab.emulates),
                }
                for c in self.computes
            },
            "urls": {name: self.site.url(name) for name in self.site.ports},
        }
