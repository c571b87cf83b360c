# SPDX-License-Identifier: Apache-2.0
"""A slice of this machine: proposed, validated, rendered, booted, polled."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ceilometer_perf.guest import slice_metadata
from ceilometer_perf.host import slices
from ceilometer_perf.slices import machine
from ceilometer_perf.slices.footprint import Pool
from tests import warm
from tests.functional.agent import Agent
from tests.lab import Lab
from tests.unit.slice_cases import Slices, hostdev, instance

ETC = Path(__file__).parents[2] / "etc" / "slices" / "eight-gpus"

COMMAND = Path(sys.executable).with_name("ceilometer-perf")
NAME = "1of1_1"
MIB = 1 << 10
GUEST_MIB = 64  # of each NUMA node
UUID = "0c8b7f8e-5c5f-4d39-8f0e-9b6f3d8b4a01"
OTHER = UUID.replace("4a01", "4a02")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def run(*words: str, code: int = 0) -> str:
    ran = warm.run([COMMAND, "slice", *words])
    assert ran.returncode == code, ran.stderr
    return ran.stdout


def lone(folder: Path, template: str) -> tuple[str, str]:
    """A nova.conf with one slice."""
    Slices(folder).add("lone", template)
    return ("--nova-conf", str(folder / "nova.conf"))


class Host:
    """This machine as one slice, with a nova.conf that counts."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder / "slices"
        self.generated = run(
            "generate", "--connect", lab.uri_ro, "--split", "1/1",
            "--reserved-cores", "0", "--page-size", "4K",
            "--reserved-memory", f"{self._reserved()}K",
            "--output", str(self.folder), "-f", "json",
        )  # fmt: skip
        self.conf = ("--nova-conf", str(self.folder / "nova.conf"))
        with (self.folder / "nova.conf").open("a") as file:
            file.write(f"enabled_perf_events = {','.join(lab.events)}\n")
        self._bootable()

    def _reserved(self) -> int:
        """All but a little, of the node with the least."""
        known = machine.read(self.lab.connection.getCapabilities())
        least = min(known.memory[Pool(node, 4)] for node in known.nodes)
        return least - GUEST_MIB * MIB

    def _bootable(self) -> None:
        """What an operator would edit: here, how and what the guest boots."""
        path = self.folder / f"{NAME}.xml"
        firmware = self.lab.folder / "boot" / "spin"
        text = path.read_text()
        for old, new in (
            ("<boot dev='hd'/>", f"<loader type='rom'>{firmware}</loader>"),
            ("<domain type='kvm'>", f"<domain type='{self.lab.virt}'>"),
        ):
            assert old in text
            text = text.replace(old, new)
        if self.lab.virt == "qemu":
            text = text.replace("mode='host-passthrough'", "mode='maximum'")
        path.write_text(text)

    def render(self, uuid: str, **changes: Any) -> str:
        path = self.folder / "instance.json"
        asked = {**instance(uuid=uuid, **changes), "disks": []}
        path.write_text(json.dumps({**asked, "interfaces": []}))
        return run(
            "render", *self.conf, "--slice", NAME,
            "--instance-json", str(path),
        )  # fmt: skip

    def tree(self) -> list[dict[str, Any]]:
        words = ("--connect", self.lab.uri_ro, "-f", "json")
        rows: list[dict[str, Any]] = json.loads(
            run("tree", *self.conf, *words)
        )
        return rows


@pytest.fixture(scope="module")
def host(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(lab, tmp_path_factory.mktemp("host"))


@pytest.fixture
def domain(lab: Lab, host: Host) -> Iterator[libvirt.virDomain]:
    """A guest in the slice, booted from what was rendered."""
    made = lab.connection.defineXMLFlags(
        host.render(UUID), libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    )
    try:
        made.create()
        yield made
    finally:
        if made.isActive():
            made.destroy()
        made.undefine()


def test_validated(lab: Lab, host: Host) -> None:
    (row,) = json.loads(host.generated)
    assert row["slice"] == NAME
    assert run("validate", *host.conf, "--connect", lab.uri_ro) == (
        "no findings\n"
    )


def test_the_host_lacks(lab: Lab, host: Host, tmp_path: Path) -> None:
    text = (host.folder / f"{NAME}.xml").read_text()
    bad = text.replace("emulatorpin cpuset='", "emulatorpin cpuset='8000,")
    words = ("--connect", lab.uri_ro, "-f", "json")
    found = run("validate", *lone(tmp_path, bad), *words, code=1)
    assert [row["what"] for row in json.loads(found)] == [
        "the host has no CPU 8000"
    ]


def test_booted(host: Host, lab: Lab, domain: libvirt.virDomain) -> None:
    assert domain.isActive()
    live = domain.XMLDesc(0)
    assert slice_metadata.read(live) == NAME
    vcpus, pins = domain.vcpus()
    (row,) = json.loads(host.generated)
    ours = set(row["cpus"])
    assert len(vcpus) == domain.maxVcpus()
    for mask in pins:
        assert {cpu for cpu, on in enumerate(mask) if on} <= ours
    assert domain.maxMemory() == GUEST_MIB * MIB * len(row["nodes"])


def test_free_before_it_is_taken(host: Host) -> None:
    (row,) = host.tree()
    assert (row["state"], row["domains"]) == ("free", [])


def test_known_to_be_taken(host: Host, domain: libvirt.virDomain) -> None:
    (row,) = host.tree()
    assert (row["state"], row["domains"]) == ("taken", [UUID])
    domain.destroy()
    # It starts again with what it has.
    (row,) = host.tree()
    assert (row["state"], row["domains"]) == ("taken", [UUID])


def test_polled(lab: Lab, domain: libvirt.virDomain, tmp_path: Path) -> None:
    with Agent(tmp_path, lab, meters=("perf.sw.task_clock",)) as agent:
        samples = agent.wait_for_samples(3, resource_id=UUID)
    volumes = [sample["counter_volume"] for sample in samples]
    assert volumes == sorted(set(volumes))
    metadata = samples[0]["resource_metadata"]
    assert metadata["display_name"] == "sample"
    assert metadata["perf"]["slice"] == NAME
    assert agent.errors() == []


def test_names_are_only_names(lab: Lab, host: Host) -> None:
    """What a tenant writes reaches libvirt as it is, and does nothing."""
    name = "</nova:name><b a='\"'>{{ 1 / 0 }} & ä"
    text = host.render(OTHER, name="other", display_name=name)
    made = lab.connection.defineXMLFlags(
        text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    )
    try:
        assert "&lt;/nova:name&gt;" in made.XMLDesc(0)
        assert slice_metadata.read(made.XMLDesc(0)) == NAME
    finally:
        made.undefine()


def test_a_libvirt_that_lists_no_devices(
    lab: Lab, host: Host, tmp_path: Path
) -> None:
    """The lab's has the driver for QEMU alone."""
    assert slices.hardware(lab.uri_ro).devices is None
    text = (host.folder / f"{NAME}.xml").read_text()
    device = hostdev("0000:00:00.0") + "</devices>"
    conf = lone(tmp_path, text.replace("</devices>", device))
    words = ("--connect", lab.uri_ro, "-f", "json")
    rows = json.loads(run("validate", *conf, *words))
    assert [row["rule"] for row in rows] == ["unchecked"]


def test_a_libvirt_that_lists_devices(tmp_path: Path) -> None:
    """libvirt's test driver takes ours for its own, and checks them."""
    devices = (ETC / "devices.xml").read_text()
    (tmp_path / "host.xml").write_text(
        "<node><device><name>computer</name><capability type='system'>"
        f"<hardware><uuid>{UUID}</uuid></hardware><firmware/></capability>"
        "</device>"
        f"{re.sub('<parent>.*', '<parent>computer</parent>', devices)}</node>"
    )
    found = slices.hardware(f"test://{tmp_path}/host.xml")
    assert found.devices is not None
    capabilities = (ETC / "capabilities.xml").read_text()
    known = machine.read(capabilities, [("", d) for d in found.devices])
    assert known.pci == machine.read(capabilities, [("", devices)]).pci
