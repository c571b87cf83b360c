# SPDX-License-Identifier: Apache-2.0
"""Tiny guests, and the domain XML that Nova would have written for them."""

import uuid
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lxml import etree
from lxml.builder import E, ElementMaker

from tests.lab.pmu import HARDWARE_EVENTS, SOFTWARE_EVENTS

Kind = Literal["spin", "idle", "paused", "busy"]
KINDS: tuple[Kind, ...] = ("spin", "idle", "paused", "busy")

# All of libvirt's but cmt, mbmt and mbml, which kernels of today refuse.
EVENTS = (*HARDWARE_EVENTS, *SOFTWARE_EVENTS)

# A guest's `extra` by which libvirt tells of caches and bandwidth without perf
# events; for one vCPU.
MONITORS = """
<cputune>
  <cachetune vcpus='0'><monitor level='3' vcpus='0'/></cachetune>
  <memorytune vcpus='0'><monitor vcpus='0'/></memorytune>
</cputune>
"""

NOVA_URI = "http://openstack.org/xmlns/libvirt/nova/1.1"
NOVA = ElementMaker(namespace=NOVA_URI, nsmap={"nova": NOVA_URI})

FLAVOR = "lab.tiny"
FLAVOR_ID = "5b9bd5cb-54c7-4f5d-a2c1-6d4b3a0d1f01"
IMAGE_ID = "2c7f0a0e-0a35-4b0e-9d3e-1f0c6a3d2b02"
PROJECT_ID = "7d0f6a4e2b8c4f5e9a1b3c5d7e9f0a03"
USER_ID = "8e1f7b5f3c9d406fab2c4d6e8f0a1b04"

# Where every lab's guests get their UUIDs from.
LAB = uuid.UUID("c3f9d1f2-8a0e-4a57-9d0c-5e0b7c1a9f05")


@dataclass(frozen=True)
class Guest:
    """An instance: what Nova knows of it, and what libvirt is to be told.

    A 'spin' guest uses all of its vCPUs all the time, a 'busy' one a fifth of
    its first vCPU, an 'idle' one none, a 'paused' one was never let run.
    """

    name: str
    kind: Kind = "idle"
    vcpus: int = 1
    events: tuple[str, ...] = EVENTS
    memory_mib: int = 16
    # 'kvm' or 'qemu'; None: what the lab can do
    virt: str | None = None
    # libvirt's name of it; None: as Nova's default template would have it
    domain: str | None = None
    # False: not one of Nova's
    metadata: bool = True
    # None: as Nova < 32 has it, with neither flavor id, extra specs nor image
    flavor_id: str | None = FLAVOR_ID
    extra_specs: dict[str, str] = field(default_factory=dict, hash=False)
    image_properties: dict[str, str] = field(default_factory=dict, hash=False)
    # XML elements for <domain>; one takes the place of the lab's own of that
    # name
    extra: tuple[str, ...] = ()

    @cached_property
    def uuid(self) -> str:
        """The instance's UUID; the same name always has the same."""
        return str(uuid.uuid5(LAB, self.name))

    @cached_property
    def domain_name(self) -> str:
        """What libvirt calls the instance."""
        return self.domain or f"instance-{self.uuid[:8]}"

    def xml(
        self, virt: str, *, boot: Path = Path("boot"), flavor: str = FLAVOR
    ) -> str:
        """The domain XML; `boot` is the folder of the firmware."""
        domain = E.domain(
            E.name(self.domain_name),
            E.uuid(self.uuid),
            E.memory(str(self.memory_mib), unit="MiB"),
            E.vcpu(str(self.vcpus)),
            E.os(
                E.type("hvm", arch="x86_64", machine="pc"),
                E.loader(str(boot / self.kind), readonly="yes", type="rom"),
            ),
            E.devices(
                E.emulator("/usr/bin/qemu-system-x86_64"),
                E.controller(type="usb", model="none"),
            ),
            type=self.virt or virt,
        )
        if self.events:
            domain.append(_perf(self.events))
        if self.metadata:
            domain.append(E.metadata(self._instance(flavor)))
        for text in self.extra:
            _put(domain, etree.fromstring(text))
        return str(
            etree.tostring(domain, pretty_print=True, encoding="unicode")
        )

    def _instance(self, flavor: str) -> Any:
        instance = NOVA.instance(
            NOVA.package(version="34.0.0"),
            NOVA.name(self.name),
            NOVA.creationTime("2026-01-01 00:00:00"),
            self._flavor(flavor),
            NOVA.owner(
                NOVA.user("lab", uuid=USER_ID),
                NOVA.project("lab", uuid=PROJECT_ID),
            ),
            NOVA.root(type="image", uuid=IMAGE_ID),
        )
        if self.flavor_id is not None:
            instance.insert(4, self._image())
        return instance

    def _flavor(self, name: str) -> Any:
        flavor = NOVA.flavor(
            NOVA.memory(str(self.memory_mib)),
            NOVA.disk("0"),
            NOVA.swap("0"),
            NOVA.ephemeral("0"),
            NOVA.vcpus(str(self.vcpus)),
            name=name,
        )
        if self.flavor_id is not None:
            flavor.set("id", self.flavor_id)
            flavor.append(_named("extraSpecs", "extraSpec", self.extra_specs))
        return flavor

    def _image(self) -> Any:
        properties = _named("properties", "property", self.image_properties)
        return NOVA.image(
            NOVA.containerFormat("bare"),
            NOVA.diskFormat("raw"),
            NOVA.minDisk("0"),
            NOVA.minRam("0"),
            properties,
            uuid=IMAGE_ID,
        )


def _perf(events: tuple[str, ...]) -> Any:
    return E.perf(*(E.event(name=name, enabled="yes") for name in events))


def _named(tag: str, item: str, values: dict[str, str]) -> Any:
    items = (NOVA(item, value, name=key) for key, value in values.items())
    return NOVA(tag, *items)


def _put(domain: Any, element: Any) -> None:
    for present in domain.findall(element.tag):
        domain.remove(present)
    domain.append(element)
