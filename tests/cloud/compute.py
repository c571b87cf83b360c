# SPDX-License-Identifier: Apache-2.0
"""A compute host: a libvirtd, a nova-compute and a polling agent of its own.

It is a lab, so a mount namespace in which libvirt's folders are its own, and a
host name. There is one network for all: each host has a loopback address.
"""

import signal
import uuid
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.chain.agents import ETC as CEILOMETER
from tests.chain.agents import MESSAGING, RECORDER
from tests.chain.server import LOOPBACK, Server, free_ports, listens
from tests.cloud import services, virt
from tests.cloud.flavors import DEDICATED, SHARED
from tests.cloud.site import BIN, Site, ini
from tests.functional.node import CONFIG, Node
from tests.lab import EVENTS, Lab, cleaning
from tests.lab.requirements import find
from tests.lab.resctrl.hardware import INTEL

NAMES = ("compute1", "compute2")
# Where libvirt's folders are the host's own; the same path on every host, as
# migration wants it.
STATE = Path("/var/lib/libvirt/nova")
HELPERS = (
    "nova_sys_admin", "privsep_osbrick", "vif_plug_linux_bridge_privileged",
    "vif_plug_ovs_privileged",
)  # fmt: skip
COMMANDS = Path(__file__).with_name("commands")
PORTS = 64  # of each host, for migrations that come


class Compute:
    """One host; its number is its address, 127.0.0.1N."""

    def __init__(
        self,
        site: Site,
        number: int,
        options: Mapping[str, str],
        *,
        record: bool = False,
    ) -> None:
        """``options``: of ``[libvirt]``, besides those that it has anyway.

        ``record``: keep what the agent sends, in the file of that name.
        """
        self.name = NAMES[number - 1]
        self.address = f"127.0.0.1{number}"
        self._site = site
        self._number = number
        self.options = dict(options)
        self._folder = site.at(self.name)
        self.record = self._folder / "agent" / "sent" if record else None
        #: ``compute_driver`` of nova.conf.
        self.driver = "libvirt.LibvirtDriver"
        self.lab = Lab(
            fake_pmu=True,
            resctrl=INTEL,
            folder=self._folder / "lab",
            libvirtd_conf=f'host_uuid = "{uuid.uuid4()}"\n',
            qemu_conf=self._qemu_conf(),
            hostname=self.name,
        )
        (exporter,) = free_ports(1)
        self.exporter = f"{LOOPBACK}:{exporter}"
        #: What its agent reads.
        self.ceilometer_conf: Path
        self.compute: Server
        self.polling: Server

    def _qemu_conf(self) -> str:
        first = 49152 + PORTS * self._number
        return (
            f'migration_address = "{self.address}"\n'
            f"migration_port_min = {first}\n"
            f"migration_port_max = {first + PORTS - 1}\n"
            # A realtime guest locks its memory; see fakepmu.c.
            "clear_emulator_capabilities = 0\n"
        )

    def start_libvirtd(self) -> None:
        """The lab, with all that is in it."""
        self._folder.mkdir()
        self.lab.up()
        (self.lab.folder / "lib" / "nova" / "instances").mkdir(parents=True)
        link = self._site.at("sockets", self.address)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(self.lab.run_dir)
        self._start_servers()

    @property
    def nova_conf(self) -> Path:
        """What nova-compute was started with."""
        return self._folder / "nova.conf"

    def configure(self, **options: str) -> None:
        """Write nova.conf, with other options of ``[libvirt]`` from now on."""
        self.options |= options
        self.nova_conf.write_text(ini(self._nova()))

    def _nova(self) -> dict[str, dict[str, object]]:
        helper = {"helper_command": BIN / "privsep-helper"}
        sections = services.nova(self._site)
        sections["DEFAULT"] |= {
            "host": self.name,
            "my_ip": self.address,
            "state_path": STATE,
            "instances_path": STATE / "instances",
            "compute_driver": self.driver,
            "use_cow_images": False,
            # Guests here take no notice of a power button.
            "shutdown_timeout": 0,
            "flat_injected": False,
            "update_resources_interval": 10,
            "cpu_allocation_ratio": 16,
        }
        sections["libvirt"] = {
            "virt_type": virt.virt_type(),
            "wait_soft_reboot_seconds": 1,
            # Else the whole disk is sent, holes and all.
            "snapshot_image_format": "qcow2",
            "cpu_mode": "none",
            "images_type": "flat",
            "inject_partition": -2,
            "enabled_perf_events": ",".join(EVENTS),
            "live_migration_inbound_addr": self.address,
            "live_migration_uri": "qemu+unix:///system?socket="
            f"{self._site.at('sockets')}/%s/libvirt-sock",
            **self.options,
        }
        sections["compute"] = {"cpu_shared_set": SHARED}
        if DEDICATED:
            sections["compute"]["cpu_dedicated_set"] = DEDICATED
        sections["workarounds"] = {"skip_cpu_compare_on_dest": True}
        sections |= {name: dict(helper) for name in HELPERS}
        return sections

    def _start_servers(self) -> None:
        self.configure()
        log = self._folder / "nova-compute.log"
        self.compute = Server(
            f"nova-compute on {self.name}",
            self.inside(
                BIN / "nova-compute", "--config-file", self.nova_conf,
            ),
            log,
            ready=lambda: "Starting compute node" in log.read_text(),
            environment=self._environment,
            end=signal.SIGKILL,
        )  # fmt: skip
        self.polling = self._agent()

    @property
    def _environment(self) -> dict[str, str]:
        # Nova copies disks between hosts by ssh and scp, and here is one.
        path = f"{COMMANDS}:{self._site.environment['PATH']}"
        inside = {"PGHOST": "", "PATH": path}
        return {**self._site.environment, **inside}

    def inside(self, *command: object) -> list[object]:
        """What runs a command in this host's mount namespace."""
        keeper = cleaning.keeper_pid(self.lab.folder)
        spaces = f"/proc/{keeper}/ns"
        return [find("nsenter", "util-linux"), f"--mount={spaces}/mnt",
                f"--uts={spaces}/uts", f"--wdns={self._folder}",
                *command]  # fmt: skip

    def _agent(self) -> Server:
        """ceilometer-polling, as its user without privilege."""
        folder = self._folder / "agent"
        folder.mkdir()
        node = Node(self._folder / "node")
        self.ceilometer_conf = node.config
        polling = yaml.safe_load((CEILOMETER / "polling.yaml").read_text())
        for source in polling["sources"]:
            source["interval"] = self._site.interval
        own = folder / "polling.yaml"
        own.write_text(yaml.safe_dump(polling))
        node.config.write_text(ini(self._ceilometer(own)))
        node.give(folder)
        port = int(self.exporter.rpartition(":")[2])
        return Server(
            f"ceilometer-polling on {self.name}",
            self.inside(
                *node.command(
                    "/usr/bin/ceilometer-polling", "--polling-namespaces",
                    "compute", "--config-file", CONFIG,
                    "--config-file", MESSAGING,
                )
            ),
            self._folder / "ceilometer-polling.log",
            ready=lambda: listens(port),
            environment={"PYTHONWARNINGS": "ignore", **self._recorder()},
            end=signal.SIGKILL,
        )  # fmt: skip

    def _recorder(self) -> dict[str, str]:
        if self.record is None:
            return {}
        return {"PYTHONPATH": str(RECORDER), "RECORD": str(self.record)}

    def _ceilometer(self, polling: Path) -> dict[str, dict[str, object]]:
        sections: dict[str, dict[str, object]] = {
            "DEFAULT": {
                "host": self.name,
                "transport_url": self._site.transport,
                "pollsters_definitions_dirs": polling.parent / "pollsters.d",
            },
            "polling": {
                "cfg_file": polling,
                "enable_prometheus_exporter": True,
                "prometheus_listen_addresses": self.exporter,
            },
            # In proportion to the interval, which is shorter than anybody's.
            "perf": {
                "coverage_floor": 0.4,
                "neighbours_file": polling.parent / "neighbours.json",
            },
        }
        if self.record is not None:
            sections["publisher_notifier"] = {"telemetry_driver": "recorder"}
        return sections

    def servers(self) -> list[Server]:
        """Those that run here, in the order in which they start."""
        return [self.compute, self.polling]

    def stop(self) -> None:
        """End all of it. Again is fine."""
        for name in ("polling", "compute"):
            server = getattr(self, name, None)
            if server is not None:
                server.stop()
        self.lab.down()
