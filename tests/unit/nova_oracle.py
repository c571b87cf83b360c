# SPDX-License-Identifier: Apache-2.0
"""Nova itself, asked what it would do with a flavor and an image.

Only what needs a hypervisor is replaced: the host's topology and which of
its CPUs are online. Everything that decides is Nova's own code.
"""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import libvirt
import nova.conf
from nova import exception, objects
from nova.compute import api
from nova.virt import hardware
from nova.virt.libvirt import config as vconfig
from nova.virt.libvirt import driver

from tests.unit.guest_rules import Verdict

CONF = nova.conf.CONF
CONF([], project="nova", default_config_files=[], default_config_dirs=[])
objects.register_all()
driver.libvirt = libvirt  # Nova 32 imports it when a driver is created

MEMORY_MB = 1024
#: Two NUMA nodes: CPUs that guests share, and CPUs that they may own.
NODES = (
    (frozenset(range(4)), frozenset(range(8, 20))),
    (frozenset(range(4, 8)), frozenset(range(20, 32))),
)
ONLINE = frozenset(range(32))


class Nova:
    """One flavor, one image and one compute host, as Nova sees them."""

    def __init__(
        self,
        vcpus: int,
        flavor: Mapping[str, str],
        image: Mapping[str, str],
        shared_cpus: str | None = None,
    ) -> None:
        CONF.set_override("cpu_shared_set", shared_cpus, group="compute")
        self.flavor = objects.Flavor(
            id=1,
            flavorid="1",
            name="flavor",
            vcpus=vcpus,
            memory_mb=MEMORY_MB * vcpus,
            root_gb=1,
            ephemeral_gb=0,
            swap=0,
            extra_specs=dict(flavor),
        )
        self._image = {"name": "image", "properties": dict(image)}
        self.driver = self._driver()

    @staticmethod
    def _driver() -> Any:
        libvirt_driver = driver.LibvirtDriver.__new__(driver.LibvirtDriver)
        libvirt_driver._host = mock.Mock()
        libvirt_driver._host.get_online_cpus.return_value = set(ONLINE)
        libvirt_driver._has_numa_support = lambda: True
        libvirt_driver._get_host_numa_topology = host_topology
        libvirt_driver._get_vcpu_available = lambda: set(ONLINE)
        return libvirt_driver

    def image_meta(self) -> Any:
        """The image, refused as the API refuses it."""
        return api._get_image_meta_obj(self._image)

    def verdict(self) -> Verdict:
        """The API's checks in the API's order, then the compute host's."""
        try:
            return self._accepted()
        except exception.NovaException as error:
            return Verdict(error=type(error).__name__)

    def _accepted(self) -> Verdict:
        meta = self.image_meta()
        pmu = hardware.get_pmu_constraint(self.flavor, meta)
        realtime = hardware.get_realtime_cpu_constraint(self.flavor, meta)
        hardware.numa_get_constraints(self.flavor, meta)
        backing = self.backing(meta)
        return Verdict(
            pmu=pmu,
            realtime=None if realtime is None else frozenset(realtime),
            locked=bool(backing and backing.locked),
            unshared=bool(backing and not backing.sharedpages),
        )

    def backing(self, meta: Any) -> Any:
        """``<memoryBacking>``, but for huge pages."""
        return self.driver._get_guest_memory_backing_config(
            None, None, self.flavor, meta
        )

    def xml(self, events: list[str]) -> str | None:
        """The domain that Nova generates; None if the guest doesn't fit."""
        meta = self.image_meta()
        asked = hardware.numa_get_constraints(self.flavor, meta)
        if asked is not None:
            asked = hardware.numa_fit_instance_to_host(
                host_topology(), asked, provider_mapping=None
            )
            if asked is None:
                return None
        domain = vconfig.LibvirtConfigGuest()
        domain.virt_type = "kvm"
        domain.name = "instance-00000001"
        domain.uuid = "7ab0ea4c-6a5a-4f13-9d1c-2c0ea2ea1d3f"
        domain.memory = self.flavor.memory_mb * 1024
        domain.vcpus = self.flavor.vcpus
        domain.os_type = "hvm"
        if hasattr(self.driver, "_get_guest_iothread"):  # not Nova 32's
            domain.iothreads = self.driver._get_guest_iothread()
        domain.metadata.append(self.metadata(meta))
        domain.membacking = self.backing(meta)
        numa = self.driver._get_guest_numa_config(asked, self.flavor, meta)
        domain.cputune = numa.cputune
        pmu = hardware.get_pmu_constraint(self.flavor, meta)
        if pmu is not None:
            domain.features.append(vconfig.LibvirtConfigGuestFeaturePMU(pmu))
        for event in events:
            domain.add_perf_event(event)
        return str(domain.to_xml())

    def metadata(self, meta: Any) -> Any:
        """What Nova notes of the flavor and the image."""
        noted = vconfig.LibvirtConfigGuestMetaNovaInstance()
        noted.package = "34.0.0"
        noted.flavor = vconfig.LibvirtConfigGuestMetaNovaFlavor()
        noted.flavor.name, noted.flavor.id = "flavor", "1"
        noted.flavor.extra_specs = self.flavor.extra_specs
        noted.image = vconfig.LibvirtConfigGuestMetaImage()
        noted.image.image_meta = mock.Mock(
            container_format="bare",
            disk_format="raw",
            min_disk=0,
            min_ram=0,
            properties=dict(self._properties(meta)),
        )
        return noted

    @staticmethod
    def _properties(meta: Any) -> Mapping[str, str]:
        """As the driver writes them: coerced, then made text again."""
        return {
            name: str(meta.properties.get(name))
            for name in meta.properties.fields
            if meta.properties.obj_attr_is_set(name)
        }

    def perf_events(self, names: list[str]) -> list[str]:
        """``[libvirt] enabled_perf_events`` as the driver filters it."""
        CONF.set_override("enabled_perf_events", names, group="libvirt")
        return list(self.driver._get_supported_perf_events())


def host_topology() -> Any:
    """A host with a kind of CPU for every policy."""
    return objects.NUMATopology(
        cells=[
            objects.NUMACell(
                id=number,
                socket=number,
                cpuset=set(shared),
                pcpuset=set(dedicated),
                memory=1024 * 1024,
                cpu_usage=0,
                memory_usage=0,
                pinned_cpus=set(),
                siblings=[{cpu} for cpu in shared | dedicated],
                mempages=[
                    objects.NUMAPagesTopology(
                        size_kb=4, total=2**28, used=0, reserved=0
                    )
                ],
            )
            for number, (shared, dedicated) in enumerate(NODES)
        ]
    )
