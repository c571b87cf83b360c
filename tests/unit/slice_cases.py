# SPDX-License-Identifier: Apache-2.0
"""Folders with a nova.conf and templates, for tests of slices."""

import copy
import json
import pathlib
from typing import Any

from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices import spec
from ceilometer_perf.slices.context import SAMPLE
from ceilometer_perf.slices.spec import SliceSpec
from ceilometer_perf.slices.template import Rendered

DOMAIN = """\
<domain type='kvm'>
  <name>{{ instance.name }}</name>
  <memory unit='KiB'>%d</memory>
  <vcpu>%d</vcpu>
%s
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
%s
  <devices>
%s
  </devices>
</domain>
"""


def domain(
    *,
    memory: int = 1024,
    vcpus: int = 1,
    tuning: str = "",
    cpu: str = "",
    devices: str = "",
) -> str:
    """A template with parts of one's own."""
    return DOMAIN % (memory, vcpus, tuning, cpu, devices)


def pinned(*cpus: int, devices: str = "", numa: str = "") -> str:
    """A template with each vCPU on a CPU of its own."""
    pins = "\n".join(
        f"    <vcpupin vcpu='{v}' cpuset='{cpu}'/>"
        for v, cpu in enumerate(cpus)
    )
    return domain(
        vcpus=len(cpus),
        tuning=f"  <cputune>\n{pins}\n  </cputune>{numa}",
        devices=devices,
    )


def hostdev(address: str) -> str:
    """A device handed through: ``0000:3b:00.0``."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return (
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' "
        f"function='0x{function}'/></source></hostdev>"
    )


def mdev(uuid: str) -> str:
    """A mediated device handed through."""
    return (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
        f"<source><address uuid='{uuid}'/></source></hostdev>"
    )


class Slices:
    """A nova.conf that grows by slices."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.conf = folder / "nova.conf"
        self.conf.write_text("[libvirt]\n")

    def add(
        self, name: str, template: str, parent: str | None = None
    ) -> "Slices":
        """A slice with the text of its template."""
        path = self.folder / f"{name}.xml"
        path.write_text(template)
        entry = {
            "name": name,
            "resource_class": "CUSTOM_SLICE",
            "template_file": path.name,
        }
        if parent:
            entry["conflict_parent"] = parent
        with self.conf.open("a") as file:
            file.write(f"slice_spec = {json.dumps(entry)}\n")
        return self

    def specs(self) -> tuple[SliceSpec, ...]:
        """What is read of it."""
        return spec.read(NovaFiles((self.conf,)))


def instance(**changes: Any) -> dict[str, Any]:
    """The sample instance, changed."""
    found: dict[str, Any] = copy.deepcopy(dict(SAMPLE))
    found["instance"].update(changes)
    return found


def rendered(text: str, file: str = "slice.xml") -> Rendered:
    """A template that says what it renders to."""
    count = len(text.split("\n"))
    return Rendered(file, text, tuple(range(1, count + 1)))
