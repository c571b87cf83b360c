# SPDX-License-Identifier: Apache-2.0
"""The control plane's services: their configuration, and their processes."""

import base64
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.chain.server import LOOPBACK, Server, listens
from tests.cloud import wsgi
from tests.cloud.site import BIN, ETC, REGION, Sections, Site, database, ini

# As etc/ceilometer/messaging.conf has it. Ceilometer listens at Nova's and
# Neutron's exchanges, too, and ends if they declare them otherwise.
DURABLE: Mapping[str, Mapping[str, object]] = {
    "oslo_messaging_rabbit": {"rabbit_quorum_queue": True}
}
THREADS = {"placement": 16}
KEYS = ("fernet-keys", "credential-keys")


def _keystone(site: Site) -> Sections:
    keys = {"key_repository": site.at("keystone", KEYS[0])}
    return {
        "DEFAULT": {"public_endpoint": site.url("keystone")[: -len("/v3")]},
        "database": {"connection": database("keystone")},
        "token": {"expiration": 86400},
        # bcrypt's fewest: nobody attacks what ends in an hour.
        "identity": {"password_hash_rounds": 4},
        "fernet_tokens": keys,
        "fernet_receipts": keys,
        "credential": {"key_repository": site.at("keystone", KEYS[1])},
    }


def _glance(site: Site) -> Sections:
    folder = site.at("glance")
    return {
        "DEFAULT": {
            "enabled_backends": "files:file",
            "node_staging_uri": f"file://{folder}/staging",
            "workers": 0,
        },
        "database": {"connection": database("glance")},
        "glance_store": {"default_backend": "files"},
        "files": {"filesystem_store_datadir": folder / "images"},
        "os_glance_tasks_store": {
            "filesystem_store_datadir": folder / "tasks"
        },
        "os_glance_staging_store": {
            "filesystem_store_datadir": folder / "staging"
        },
        "keystone_authtoken": site.authtoken(),
        "paste_deploy": {
            "flavor": "keystone",
            "config_file": ETC / "glance/glance-api-paste.ini",
        },
    }


def _placement(site: Site) -> Sections:
    return {
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": database("placement")},
        "keystone_authtoken": site.authtoken(),
    }


def _neutron(site: Site) -> Sections:
    return {
        "DEFAULT": {
            "core_plugin": "ml2",
            "service_plugins": "",
            "auth_strategy": "keystone",
            "api_paste_config": ETC / "neutron/api-paste.ini",
            "state_path": site.at("neutron"),
            "transport_url": site.transport,
            "notify_nova_on_port_status_changes": False,
            "notify_nova_on_port_data_changes": False,
        },
        # Instances have no network: no agent, nothing to bind a port to.
        "ml2": {"mechanism_drivers": "", "type_drivers": "local,flat"},
        "database": {"connection": database("neutron")},
        "keystone_authtoken": site.authtoken(),
        "oslo_concurrency": {"lock_path": site.at("neutron", "locks")},
        **DURABLE,
    }


def nova(site: Site) -> dict[str, dict[str, object]]:
    """What all of Nova's services have in their nova.conf."""
    return {
        "DEFAULT": {
            "transport_url": site.transport,
            "my_ip": "127.0.0.1",
            "state_path": site.at("nova"),
            "osapi_compute_workers": 1,
        },
        "api": {"auth_strategy": "keystone"},
        "conductor": {"workers": 1},
        "scheduler": {
            "workers": 1,
            # Hosts are known as soon as they are there.
            "discover_hosts_in_cells_interval": 2,
        },
        "keystone_authtoken": site.authtoken(),
        "service_user": {"send_service_user_token": True, **site.auth()},
        "glance": {"region_name": REGION},
        "placement": site.auth(),
        "neutron": site.auth(),
        "vnc": {"enabled": False},
        "oslo_concurrency": {"lock_path": site.at("nova", "locks")},
        **{name: dict(each) for name, each in DURABLE.items()},
    }


def _nova_databases(_site: Site) -> Sections:
    # A file of its own: nova-compute refuses to start where it sees one.
    return {
        "database": {"connection": database("nova")},
        "api_database": {"connection": database("nova_api")},
    }


def _gnocchi(site: Site) -> Sections:
    storage = site.at("gnocchi", "storage")
    return {
        "indexer": {"url": database("gnocchi")},
        "storage": {"driver": "file", "file_basepath": storage},
        "incoming": {"driver": "file", "file_basepath": storage},
        "api": {"auth_mode": "keystone"},
        "keystone_authtoken": site.authtoken(),
        "metricd": {"workers": 1, "metric_processing_delay": 1},
    }


def _aetos(site: Site) -> Sections:
    return {
        "prometheus": {"host": LOOPBACK, "port": site.prometheus},
        "keystone_authtoken": site.authtoken(),
    }


def _aodh(site: Site) -> Sections:
    return {
        "DEFAULT": {"transport_url": site.transport},
        # It knows its drivers by plain names; SQLAlchemy takes psycopg then.
        "database": {"connection": database("aodh").replace("+psycopg2", "")},
        "keystone_authtoken": site.authtoken(),
        "service_credentials": {**site.auth(), "interface": "public"},
        "evaluator": {"evaluation_interval": 1},
        **DURABLE,
    }


def _watcher(site: Site) -> Sections:
    return {
        "DEFAULT": {"transport_url": site.transport},
        "database": {"connection": database("watcher")},
        "keystone_authtoken": site.authtoken(),
        "watcher_clients_auth": site.auth(),
        "nova": {**site.auth(), "migration_interval": 1},
        "watcher_datasources": {"datasources": "aetos"},
        "collector": {"collector_plugins": "compute"},
        # Nova does not tell it of changes here.
        "watcher_cluster_data_models_collectors.compute": {"period": 5},
        "oslo_concurrency": {"lock_path": site.at("watcher", "locks")},
        **DURABLE,
    }


CONFIGS: Mapping[str, Callable[[Site], Sections]] = {
    "keystone/keystone.conf": _keystone,
    "glance/glance-api.conf": _glance,
    "placement/placement.conf": _placement,
    "neutron/neutron.conf": _neutron,
    "nova/nova.conf": nova,
    "nova/databases.conf": _nova_databases,
    "gnocchi/gnocchi.conf": _gnocchi,
    "aetos/aetos.conf": _aetos,
    "aodh/aodh.conf": _aodh,
    "watcher/watcher.conf": _watcher,
}

#: By service: the module that has its application, and where that looks for
#: its configuration, if not at home.
APIS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "keystone": (
        "keystone.wsgi.api", {"OS_KEYSTONE_CONFIG_FILES": "keystone.conf"}
    ),
    "placement": ("placement.wsgi.api", {}),
    "glance": ("glance.wsgi.api", {}),
    "neutron": (
        "neutron.wsgi.api", {"OS_NEUTRON_CONFIG_FILES": "neutron.conf"}
    ),
    "nova": (
        "nova.wsgi.osapi_compute",
        {"OS_NOVA_CONFIG_FILES": "api-paste.ini;nova.conf;databases.conf"},
    ),
    "aetos": ("aetos.wsgi.api", {}),
    "aodh": ("aodh.wsgi.api", {}),
    "watcher": ("watcher.wsgi.api", {}),
}  # fmt: skip


def configure(site: Site) -> None:
    """Write every service's configuration, and make its folder."""
    for name, sections in CONFIGS.items():
        path = site.at(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(ini(sections(site)))
    for each in KEYS:
        _write_keys(site.at("keystone", each))
    for name in ("images", "staging", "tasks"):
        site.at("glance", name).mkdir()
    shutil.copy(ETC / "nova/api-paste.ini", site.at("nova"))


def _write_keys(folder: Path) -> None:
    """What keystone-manage fernet_setup does, without its seconds."""
    folder.mkdir(mode=0o700)
    for name in ("0", "1"):
        (folder / name).write_bytes(base64.urlsafe_b64encode(os.urandom(32)))


def api(site: Site, name: str) -> Server:
    """A service's API."""
    module, files = APIS[name]
    variable = f"OS_{name.upper()}_CONFIG_DIR"
    port = site.ports[name]
    return _server(
        site,
        f"{name}-api",
        [
            BIN / "python",
            "-P",
            wsgi.__file__,
            module,
            port,
            THREADS.get(name, 4),
        ],
        name,
        ready=lambda: listens(port),
        environment={variable: str(site.at(name)), **files},
    )


def gnocchi(site: Site) -> tuple[Server, Server]:
    """Its API, and its metricd."""
    from tests.chain.gnocchi import API

    port, config = site.ports["gnocchi"], site.at("gnocchi", "gnocchi.conf")
    return (
        _server(
            site, "gnocchi-api", [BIN / "python", "-P", API, port, config],
            "gnocchi", ready=lambda: listens(port),
        ),
        _server(
            site, "gnocchi-metricd",
            [BIN / "gnocchi-metricd", "--config-file", config], "gnocchi",
        ),
    )  # fmt: skip


def worker(site: Site, name: str) -> Server:
    """nova-conductor or nova-scheduler."""
    log = site.at("nova", f"{name}.log")
    said = f"Starting {name.removeprefix('nova-')} node"
    command = [BIN / name, "--config-file", site.at("nova", "nova.conf")]
    command += ["--config-file", site.at("nova", "databases.conf")]
    return _server(
        site, name, command, "nova",
        ready=lambda: said in log.read_text(errors="replace"),
    )  # fmt: skip


def evaluator(site: Site) -> Server:
    """Aodh's, which leaves out what is not in the catalog when it starts."""
    log = site.at("aodh", "aodh-evaluator.log")
    return _server(
        site, "aodh-evaluator",
        [BIN / "aodh-evaluator", "--config-file", site.at("aodh/aodh.conf")],
        "aodh", ready=lambda: "evaluation cycle" in log.read_text(),
    )  # fmt: skip


def watcher(site: Site) -> list[Server]:
    """Its decision engine and its applier."""
    config = site.at("watcher", "watcher.conf")

    def server(name: str) -> Server:
        log = site.at("watcher", f"{name}.log")
        said = f"Starting service monitoring service for {name}"
        return _server(
            site, name, [BIN / name, "--config-file", config], "watcher",
            ready=lambda: said in log.read_text(errors="replace"),
        )  # fmt: skip

    return [server("watcher-decision-engine"), server("watcher-applier")]


def _server(
    site: Site,
    name: str,
    command: list[object] | list[Path],
    folder: str,
    *,
    ready: Callable[[], bool] = lambda: True,
    environment: Mapping[str, str] | None = None,
) -> Server:
    return Server(
        name,
        command,
        site.at(folder, f"{name}.log"),
        ready=ready,
        environment={
            **site.environment,
            # Where Keystone's middleware looks for the service's file, too.
            "HOME": str(site.at(folder)),
            **(environment or {}),
        },
        # They keep nothing that has to be put away.
        end=signal.SIGKILL,
    )
