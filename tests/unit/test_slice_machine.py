# SPDX-License-Identifier: Apache-2.0
"""A host, from what libvirt says of it."""

import pathlib

import pytest

from ceilometer_perf.slices import machine
from ceilometer_perf.slices.footprint import Pool
from ceilometer_perf.slices.machine import Device, HardwareError

ETC = pathlib.Path(__file__).parents[2] / "etc" / "slices" / "eight-gpus"
CAPABILITIES = (ETC / "capabilities.xml").read_bytes()
DEVICES = (ETC / "devices.xml").read_bytes()
GIB = 1 << 20

MDEV = """<?xml version='1.0'?>
<device>
  <name>mdev_4b20d080_1b54_4048_85b3_a6a62d165c01_0000_1b_00_0</name>
  <parent>pci_0000_1b_00_0</parent>
  <capability type='mdev'>
    <type id='nvidia-11'/>%s
  </capability>
</device>
"""


def test_the_example() -> None:
    found = machine.read(CAPABILITIES, [("devices.xml", DEVICES)])
    assert found.nodes == (0, 1)
    assert len(found.cpus) == 128
    assert [found.cpus[cpu] for cpu in (0, 31, 32, 95, 96)] == [0, 0, 1, 0, 1]
    assert len(found.cores) == 64
    assert found.cores[:2] == ((0, 64), (1, 65))
    assert found.memory[Pool(1, GIB)] == 480 * GIB
    assert found.memory[Pool(1, 2048)] == 0
    assert found.memory[Pool(0, 4)] == 32 * GIB
    assert found.pci is not None
    assert len(found.pci) == 10
    assert found.pci["0000:9d:00.0"] == Device(
        "0000:9d:00.0", 1, "10de:2330", "GH100 [H100 SXM5 80GB]"
    )
    assert found.mdevs == {}


PHYSICAL = """
<device>
  <name>pci_0000_af_00_0</name>
  <capability type='pci'>
    <domain>0</domain><bus>175</bus><slot>0</slot><function>0</function>
    <product id='0x101d'/><vendor id='0x15b3'/>
    <capability type='virt_functions' maxCount='8'>
      <address domain='0x0000' bus='0xaf' slot='0x00' function='0x2'/>
      <address domain='0x0000' bus='0xaf' slot='0x01' function='0x1'/>
    </capability>
  </capability>
</device>
"""


def test_virtual_functions() -> None:
    found = machine.read(CAPABILITIES, [("a", PHYSICAL)])
    assert found.pci is not None
    assert found.pci["0000:af:00.0"].functions == (
        "0000:af:00.2",
        "0000:af:01.1",
    )


def test_devices_that_nobody_told_of() -> None:
    assert machine.read(CAPABILITIES).pci is None


@pytest.mark.parametrize(
    "uuid", ["", "\n<uuid>4b20d080-1b54-4048-85b3-a6a62d165c01</uuid>"]
)
def test_mediated_devices(uuid: str) -> None:
    documents = [("a", MDEV % uuid), ("b", DEVICES.decode())]
    found = machine.read(CAPABILITIES, documents)
    assert found.mdevs is not None
    assert {key: d.node for key, d in found.mdevs.items()} == {
        "4b20d080-1b54-4048-85b3-a6a62d165c01": 0
    }


def test_a_host_without_pools() -> None:
    found = machine.read(
        "<capabilities><host><topology><cells><cell id='0'>"
        "<memory>4096</memory><cpus><cpu id='0'/><cpu id='1'/></cpus>"
        "</cell></cells></topology></host></capabilities>"
    )
    assert found.memory == {Pool(0, 4): 4096}
    assert found.cores == ((0,), (1,))


def cell(number: int, cpus: int, distances: dict[int, int]) -> str:
    siblings = "".join(
        f"<sibling id='{n}' value='{far}'/>" for n, far in distances.items()
    )
    listed = f"<cpu id='{number}'/>" * cpus
    return (
        f"<cell id='{number}'><memory>4096</memory>"
        f"<distances>{siblings}</distances><cpus>{listed}</cpus></cell>"
    )


@pytest.mark.parametrize(
    ("distances", "near"),
    [
        # HBM; CPUs are not nearest to memory alone by its own number, 10.
        ({0: 13, 1: 23, 2: 10, 3: 33}, {0}),
        ({0: 23, 1: 13, 2: 10, 3: 33}, {1}),
        # CXL behind a switch; and a kernel that has none of it.
        ({0: 24, 1: 24, 2: 10, 3: 14}, {0, 1}),
        ({}, {0, 1}),
    ],
)
def test_what_is_near(distances: dict[int, int], near: set[int]) -> None:
    cells = (
        cell(0, 1, {0: 10, 1: 21}),
        cell(1, 1, {0: 21, 1: 10}),
        cell(2, 0, distances),
        cell(3, 0, {}),
    )
    found = machine.read(
        "<capabilities><host><topology><cells>"
        + "".join(cells)
        + "</cells></topology></host></capabilities>"
    )
    assert found.near == {0: {0}, 1: {1}, 2: near, 3: {0, 1}}


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        ("", "Not well-formed"),
        ("<!DOCTYPE a><capabilities/>", "document type"),
        ("<capabilities/>", "virsh capabilities"),
        (CAPABILITIES.replace(b"<cpu id='3'", b"<cpu id='x'"), "'x'"),
        (CAPABILITIES.replace(b">480<", b">many<"), "'many'"),
        (b"<a>" + b" " * (10 << 20) + b"</a>", "more than"),
    ],
)
def test_bad_capabilities(capabilities: str, said: str) -> None:
    with pytest.raises(HardwareError, match=said) as caught:
        machine.read(capabilities, None, "--capabilities a.xml")
    assert str(caught.value).startswith("--capabilities a.xml: ")


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (b"", "no <device>"),
        (b"<device>", "Not well-formed"),
        (b"<!DOCTYPE a><device/>", "Not well-formed"),
        (DEVICES.replace(b"<bus>27<", b"<bus>x<"), "'x'"),
        (DEVICES.replace(b"numa node='0'", b"numa node='x'"), "'x'"),
    ],
)
def test_bad_devices(devices: bytes, said: str) -> None:
    with pytest.raises(HardwareError, match=said) as caught:
        machine.read(CAPABILITIES, [("--devices a.xml", devices)])
    assert str(caught.value).startswith("--devices a.xml: ")
