# SPDX-License-Identifier: Apache-2.0
"""What a template takes of its host, line by line."""

import pytest

from ceilometer_perf.slices import footprint
from ceilometer_perf.slices.errors import TemplateError
from ceilometer_perf.slices.footprint import Footprint, Pool, size
from tests.unit.slice_cases import domain, hostdev, mdev, rendered

GIB = 1 << 20
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def of(**parts: str) -> Footprint:
    return footprint.of(rendered(domain(**parts)))  # type: ignore[arg-type]


def test_cpus() -> None:
    found = footprint.of(
        rendered(
            domain(
                vcpus=2,
                tuning="<iothreads>1</iothreads><cputune>\n"
                "<vcpupin vcpu='0' cpuset='4'/>\n"
                "<vcpupin vcpu='1' cpuset='5-8,^7'/>\n"
                "<emulatorpin cpuset='2,4'/>\n"
                "<iothreadpin iothread='1' cpuset='3'/>\n</cputune>",
            )
        )
    )
    assert {cpu: place.line for cpu, place in found.cpus.items()} == {
        4: 6, 5: 7, 6: 7, 8: 7, 2: 8, 3: 9,
    }  # fmt: skip
    assert str(found.cpus[2]) == 'slice.xml:8 <emulatorpin cpuset="2,4"/>'
    assert found.floating == {}


def test_cpus_of_all_threads() -> None:
    text = domain(vcpus=2).replace("<vcpu>", "<vcpu cpuset='0-1'>")
    found = footprint.of(rendered(text))
    assert set(found.cpus) == {0, 1}
    assert found.floating == {}


def test_threads_without_a_pin() -> None:
    tuning = (
        "<iothreads>2</iothreads><cputune>"
        "<vcpupin vcpu='1' cpuset='4'/>"
        "<iothreadpin iothread='2' cpuset='4'/></cputune>"
    )
    found = footprint.of(rendered(domain(vcpus=4, tuning=tuning)))
    assert list(found.floating) == [
        "vCPU 0,2-3", "the emulator", "I/O thread 1",
    ]  # fmt: skip
    assert {place.line for place in found.floating.values()} == {4}


def test_devices() -> None:
    found = of(
        devices=hostdev("0000:3b:00.0")
        + "\n"
        + mdev(UUID.upper())
        + "\n<interface type='hostdev'><source>"
        "<address type='pci' domain='1' bus='59' slot='0x1f' function='7'/>"
        "</source></interface>\n<disk type='nvme' device='disk'>"
        "<source type='pci' namespace='1'>\n"
        "<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>"
        "</source></disk><hostdev mode='subsystem' type='usb'><source>"
        "<address bus='1' device='2'/></source></hostdev>"
    )
    assert {key: place.line for key, place in found.pci.items()} == {
        "0000:3b:00.0": 9, "0001:3b:1f.7": 11, "0000:01:00.0": 13,
    }  # fmt: skip
    assert {key: place.line for key, place in found.mdevs.items()} == {
        UUID: 10
    }


def memory(tuning: str = "", cpu: str = "", devices: str = "") -> object:
    text = domain(memory=4 * GIB, tuning=tuning, cpu=cpu, devices=devices)
    found = footprint.of(rendered(text))
    return {
        (pool.node, pool.page): (amount.kib / GIB, amount.place.line)
        for pool, amount in found.memory.items()
    }


CELLS = (
    "<cpu><numa>\n<cell id='0' cpus='0' memory='1' unit='GiB'/>\n"
    "<cell id='1' cpus='1' memory='3145728'/></numa></cpu>"
)


@pytest.mark.parametrize(
    ("tuning", "cpu", "found"),
    [
        ("", "", {(None, 4): (4, 3)}),
        (
            "<numatune><memory mode='strict' nodeset='1'/></numatune>",
            "",
            {(1, 4): (4, 5)},
        ),
        (
            "<numatune><memory mode='interleave' nodeset='0-1'/></numatune>",
            "",
            {(0, 4): (2, 5), (1, 4): (2, 5)},
        ),
        ("<memoryBacking><hugepages/></memoryBacking>", "",
         {(None, 2048): (4, 3)}),
        (
            ("<memoryBacking><hugepages><page size='1' unit='G'/></hugepages>"
            "</memoryBacking>"),
            "",
            {(None, GIB): (4, 3)},
        ),
        ("", CELLS, {(None, 4): (4, 8)}),
        (
            ("<numatune><memory mode='strict' nodeset='0'/>\n"
            "<memnode cellid='1' mode='strict' nodeset='1'/></numatune>\n"
            "<memoryBacking><hugepages><page size='2048' nodeset='1'/>"
            "<page size='1' unit='GiB' nodeset='0'/></hugepages>"
            "</memoryBacking>"),
            CELLS,
            {(0, GIB): (1, 5), (1, 2048): (3, 6)},
        ),
        (
            ("<memoryBacking><hugepages><page size='2048' nodeset='1'/>"
            "</hugepages></memoryBacking>"),
            CELLS,
            {(None, 4): (1, 8), (None, 2048): (3, 9)},
        ),
    ],
)  # fmt: skip
def test_memory(tuning: str, cpu: str, found: object) -> None:
    assert memory(tuning, cpu) == found


@pytest.mark.parametrize("model", ["dimm", "virtio-mem"])
def test_modules_add_to_the_cells(model: str) -> None:
    module = (
        f"<memory model='{model}'>%s<target><size unit='GiB'>2</size>"
        "<node>1</node></target></memory>\n"
    )
    source = (
        "<source><pagesize unit='MiB'>2</pagesize><nodemask>3</nodemask>"
        "</source>"
    )
    nodes = "<numatune><memory mode='strict' nodeset='0'/></numatune>"
    found = memory(nodes, CELLS, module % "" + module % source)
    assert found == {(0, 4): (6, 5), (3, 2048): (2, 12)}


def test_the_rest_of_a_division_is_not_lost() -> None:
    nodes = "<numatune><memory nodeset='0-2'/></numatune>"
    text = domain(memory=1000, tuning=nodes)
    found = footprint.of(rendered(text)).memory.values()
    assert [amount.kib for amount in found] == [334, 333, 333]


@pytest.mark.parametrize(
    ("tuning", "cpu", "devices", "said"),
    [
        ("<cputune><vcpupin vcpu='0' cpuset='x'/></cputune>", "", "", "'x'"),
        ("<cputune><vcpupin vcpu='x' cpuset='1'/></cputune>", "", "", "'x'"),
        ("<numatune><memory nodeset='9-1'/></numatune>", "", "", "'9-1'"),
        (
            "",
            "<cpu><numa><cell id='x'/></numa></cpu>",
            "",
            "must be an integer",
        ),
        ("", CELLS.replace("'1'", "'1e9'", 1), "", "must be an integer"),
        ("", CELLS.replace("GiB", "GB/s"), "", "must be one of libvirt's"),
        ("", "", hostdev("0000:3b:00.0").replace("0x3b", "0x"), "0x1a"),
        ("", "", hostdev("0000:3b:00.0").replace("0x3b", "1" * 99), "0x1a"),
        (
            "",
            "",
            (
                "<memory model='dimm'><source><nodemask>x</nodemask></source>"
                "<target><size>1</size></target></memory>"
            ),
            "'x'",
        ),
    ],
)
def test_nonsense(tuning: str, cpu: str, devices: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said) as caught:
        of(tuning=tuning, cpu=cpu, devices=devices)
    assert str(caught.value).startswith("slice.xml: ")
    assert "\n" not in str(caught.value)


def test_words() -> None:
    assert [size(kib) for kib in (0, 4, 2048, 3 << 20, (1 << 20) + 4)] == [
        "0 KiB", "4 KiB", "2 MiB", "3 GiB", "1048580 KiB",
    ]  # fmt: skip
    assert str(Pool(1, GIB)) == "node 1 in pages of 1 GiB"
    assert str(Pool(None, 4)) == "any node in pages of 4 KiB"
