# SPDX-License-Identifier: Apache-2.0
"""A host in equal parts, and templates for them."""

import dataclasses
import json
import pathlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ceilometer_perf import guest
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices import generate, machine, spec, split
from ceilometer_perf.slices.build import Builder
from ceilometer_perf.slices.footprint import Pool
from ceilometer_perf.slices.machine import Device, Machine
from ceilometer_perf.slices.schema import Schema
from ceilometer_perf.slices.split import Part, Plan, SplitError
from ceilometer_perf.slices.tree import Tree
from ceilometer_perf.slices.validate import validate
from tests.unit import shell
from tests.unit.shell import Ran
from tests.unit.test_slice_machine import CAPABILITIES, DEVICES, ETC

GIB = 1 << 20
GPU = "10de:2330"
EIGHT = machine.read(CAPABILITIES, [("devices.xml", DEVICES)])
#: Everything is right.
LAX = """<grammar xmlns="http://relaxng.org/ns/structure/1.0"><start>
<ref name="any"/></start><define name="any"><element><anyName/><zeroOrMore>
<choice><attribute><anyName/></attribute><text/><ref name="any"/></choice>
</zeroOrMore></element></define></grammar>
"""


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    folder = tmp_path_factory.mktemp("schemas")
    (folder / "domain.rng").write_text(LAX)
    return Builder(Schema(str(folder)), guest.NovaConf())


def cpus(part: Part) -> set[int]:
    return {n for share in part.shares for core in share.cores for n in core}


def gpus(part: Part) -> list[str]:
    return [device.key for share in part.shares for device in share.devices]


def test_the_eight() -> None:
    parts = list(split.divide(EIGHT, Plan((1, 2, 8), (GPU,))))
    assert [(part.of, part.number) for part in parts] == [
        (1, 1), (2, 1), (2, 2), *((8, n) for n in range(1, 9)),
    ]  # fmt: skip
    whole, left, right, *eighths = parts
    assert [len(gpus(part)) for part in parts] == [8, 4, 4] + [1] * 8
    assert [share.node for share in whole.shares] == [0, 1]
    assert [share.pages for share in whole.shares] == [480, 480]
    assert [share.node for share in left.shares + right.shares] == [0, 1]
    assert all(share.pages == 120 for e in eighths for share in e.shares)
    assert cpus(eighths[0]) == {*range(1, 8), *range(65, 72)}
    assert {EIGHT.cpus[cpu] for cpu in cpus(right)} == {1}
    assert not {0, 64, 32, 96} & cpus(whole)


def machine_of(cpus: dict[int, int], kib: dict[int, int]) -> Machine:
    """``cpus``: the number of each node's; ``kib``: of its memory."""
    numbers = iter(range(1000))
    nodes = [n for n, count in cpus.items() for _ in range(count)]
    found = {next(numbers): node for node in nodes}
    return Machine(
        cpus=found,
        memory={Pool(n, 4): 4 * size for n, size in kib.items()},
        cores=tuple((cpu,) for cpu in found),
    )


PLENTY = 64 << 20


@pytest.mark.parametrize(
    ("cpus", "kib", "left_out"),
    [
        ({0: 8, 1: 8}, {0: PLENTY, 1: PLENTY, 2: PLENTY}, ["2 has no CPUs"]),
        ({0: 8, 1: 8, 5: 4}, {0: PLENTY, 1: PLENTY, 5: 0},
         ["5 has no memory"]),
        ({0: 8, 1: 8, 5: 4}, {0: PLENTY, 1: PLENTY}, ["5 has no memory"]),
        ({0: 8, 1: 8}, {0: PLENTY, 1: PLENTY, 3: 0}, ["3 has no CPUs"]),
        ({0: 8, 1: 8}, {0: PLENTY, 1: PLENTY}, []),
    ],
)  # fmt: skip
def test_nodes_that_lack_something_take_no_part(
    cpus: dict[int, int], kib: dict[int, int], left_out: list[str]
) -> None:
    host = machine_of(cpus, kib)
    parts = list(split.divide(host, Plan((1, 2, 4))))
    assert [p.of for p in parts] == [1, 2, 2, 4, 4, 4, 4]
    assert {share.node for p in parts for share in p.shares} == {0, 1}
    lines = list(split.left_out(host))
    assert lines == [f"NUMA node {x} and is not divided" for x in left_out]


def test_no_node_has_both() -> None:
    host = machine_of({0: 8}, {1: PLENTY})
    with pytest.raises(SplitError, match="both CPUs and memory"):
        list(split.divide(host, Plan((1,))))


def test_a_host_with_memory_of_its_own_node(tmp_path: pathlib.Path) -> None:
    """Two sockets and a node of CXL, as libvirt describes them."""
    ran = shell.run(
        "slice", "generate", "--capabilities", str(MEMORY_ONLY),
        "--split", "1/1,1/2", "--reserved-memory", "1G", "--output",
        str(tmp_path / "out"), "--schemas", str(lax(tmp_path)), "-f", "json",
    )  # fmt: skip
    assert "NUMA node 2 has no CPUs" in ran.err
    assert [row["nodes"] for row in json.loads(ran.out)] == [[0, 1], [0], [1]]


MEMORY_ONLY = pathlib.Path(__file__).with_name("memory-only-node.xml")


def lax(folder: pathlib.Path) -> pathlib.Path:
    (folder / "domain.rng").write_text(LAX)
    return folder


@st.composite
def hosts(draw: st.DrawFn) -> Machine:
    """Of up to four nodes, each with its own cores and memory."""
    nodes = range(draw(st.integers(1, 4)))
    threads = draw(st.integers(1, 2))
    numbers = iter(range(1000))
    cores = [
        (node, tuple(next(numbers) for _ in range(threads)))
        for node in nodes
        for _ in range(draw(st.integers(1, 9)))
    ]
    keys = [f"0000:{n:02x}:00.0" for n in range(draw(st.integers(0, 9)))]
    return Machine(
        cpus={cpu: node for node, core in cores for cpu in core},
        memory={Pool(n, 2048): 2048 * draw(st.integers(1, 99)) for n in nodes},
        cores=tuple(core for _, core in cores),
        pci={
            key: Device(key, draw(st.sampled_from(nodes)), GPU) for key in keys
        },
        mdevs={},
    )


PARTS = st.sampled_from([(1,), (1, 2), (1, 2, 4), (2, 8), (1, 4), (3,)])


@given(hosts(), PARTS, st.booleans(), st.integers(0, 2))
def test_any_host(
    host: Machine, parts: tuple[int, ...], accelerated: bool, reserved: int
) -> None:
    """Parts are equal, apart from each other, within the whole, and local."""
    plan = Plan(parts, (GPU,) * accelerated, reserved)
    try:
        found = list(split.divide(host, plan))
    except SplitError:
        assume(False)
    for of in parts:
        level = [part for part in found if part.of == of]
        assert len(level) == of
        taken = [cpu for part in level for cpu in cpus(part)]
        assert len(taken) == len(set(taken))
        devices = [key for part in level for key in gpus(part)]
        assert len(devices) == len(set(devices))
        assert all(len(part.shares) <= max(1, len(host.nodes) // of)
                   for part in level)  # fmt: skip
        like = {
            (len(cpus(p)), len(gpus(p)), sum(s.pages for s in p.shares))
            for p in level
        }
        assert len(like) == 1
    for node in host.nodes:
        pages = sum(
            share.pages
            for part in found
            for share in part.shares
            if share.node == node and part.of == parts[0]
        )
        assert 0 < pages * 2048 <= host.memory[Pool(node, 2048)]
    for part in found:
        for share in part.shares:
            numbers = [cpu for core in share.cores for cpu in core]
            assert {host.cpus[cpu] for cpu in numbers} == {share.node}
            assert {device.node for device in share.devices} <= {share.node}


@given(hosts(), PARTS, st.booleans())
def test_what_is_proposed_is_valid(
    host: Machine, parts: tuple[int, ...], accelerated: bool
) -> None:
    plan = Plan(parts, (GPU,) * accelerated)
    try:
        proposals = generate.propose(host, plan, pathlib.Path("/a"))
    except SplitError:
        assume(False)
    tree = Tree(each.spec for each in proposals)
    for each in proposals:
        above = tree.parent(each.spec.name)
        whole = next((p for p in proposals if p.spec.name == above), None)
        assert whole is None or cpus(each.part) <= cpus(whole.part)
        assert whole is None or set(gpus(each.part)) <= set(gpus(whole.part))


def test_no_node_is_without_a_vcpu(tmp_path: pathlib.Path) -> None:
    host = machine_of({0: 2, 1: 2}, {0: PLENTY, 1: PLENTY})
    whole, *_ = generate.propose(host, Plan((1, 2)), tmp_path)
    for line in (
        "<cell id='0' cpus='0'", "<cell id='1' cpus='1'",
        "<vcpupin vcpu='0' cpuset='1'/>", "<vcpupin vcpu='1' cpuset='3'/>",
        "<emulatorpin cpuset='1'/>",
    ):  # fmt: skip
        assert line in whole.text


def test_only_x86_has_its_machine_type(
    tmp_path: pathlib.Path, builder: Builder
) -> None:
    host = machine_of({0: 2}, {0: PLENTY})
    host = dataclasses.replace(host, arch="aarch64")
    folder = tmp_path / "out"
    (whole,) = proposals = generate.propose(host, Plan((1,)), folder)
    assert "<type arch='aarch64'>hvm</type>" in whole.text
    assert "q35" not in whole.text
    assert "<features>" not in whole.text
    generate.write(proposals, folder, builder, host)
    assert "hw_machine_type" not in (folder / "nova.conf").read_text()


def test_no_rule_is_broken(tmp_path: pathlib.Path, builder: Builder) -> None:
    folder = tmp_path / "out $a"
    plan = Plan((1, 2, 8), (GPU, "15b3:1021"))
    with pytest.raises(SplitError, match="4 slices share 1 accelerators 15b3"):
        generate.propose(EIGHT, plan, folder)
    plan = Plan((1, 2), (GPU, "15b3:1021"))
    generate.write(
        generate.propose(EIGHT, plan, folder), folder, builder, EIGHT
    )
    specs = spec.read(NovaFiles((folder / "nova.conf",)))
    # Templates name that machine type.
    assert "hw_machine_type = x86_64=q35" in (folder / "nova.conf").read_text()
    assert [s.conflict_parent for s in specs] == [None, "1of1_1", "1of1_1"]
    assert validate(specs, builder, EIGHT) == []
    assert sorted(path.name for path in folder.iterdir()) == [
        "1of1_1.xml", "1of2_1.xml", "1of2_2.xml", "nova.conf",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out $a"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1/1,1/2,1/8", (1, 2, 8)),
        (" 1/8 , 1/2 ", (2, 8)),
        ("1/1", (1,)),
        ("1/2,1/2", (2,)),
    ],
)
def test_splits(text: str, parts: tuple[int, ...]) -> None:
    assert split.parse(text) == parts


@pytest.mark.parametrize(
    "text",
    ["", "1", "2/3", "1/0", "1/-1", "1/x", "1/2,", "1/2,1/3", "1/9999999999"],
)
def test_no_splits(text: str) -> None:
    with pytest.raises(SplitError, match=r"^--split .*; \w+"):
        split.parse(text)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan((3,)), "the 2 NUMA nodes of the host don't divide into 3"),
        (
            Plan((128,)),
            "64 slices share 31 cores (without --reserved-cores 1) of NUMA",
        ),
        (Plan((1,), reserved_cores=99), "1 slices share 0 cores (without"),
        (Plan((8,), page=2048), "share 0 pages of 2 MiB of NUMA node 0"),
        (Plan((8,), page=64), "share 0 pages of 64 KiB"),
        (
            Plan((8,), page=4, reserved_memory=99 * GIB),
            "4 slices share 0 pages of 4 KiB",
        ),
        (Plan((16,), (GPU,)), "8 slices share 4 accelerators 10de:2330 of"),
        (Plan((2,), ("10de:0000",)), "--accelerator 10de:0000: the host has"),
    ],
)
def test_what_is_not_there(plan: Plan, said: str) -> None:
    with pytest.raises(SplitError) as caught:
        list(split.divide(EIGHT, plan))
    assert said in str(caught.value)


def test_devices_that_nobody_told_of() -> None:
    bare = machine.read(CAPABILITIES)
    with pytest.raises(SplitError, match="give --devices"):
        list(split.divide(bare, Plan((2,), (GPU,))))


def test_small_pages() -> None:
    plan = Plan((2,), page=4)
    (share,) = next(iter(split.divide(EIGHT, plan))).shares
    assert share.pages * 4 == 24 * GIB


def run(output: pathlib.Path, *words: str) -> Ran:
    return shell.run(
        "slice", "generate", "--output", str(output), "--schemas",
        str(output.parent), "--capabilities", str(ETC / "capabilities.xml"),
        "--devices", str(ETC / "devices.xml"), *words,
    )  # fmt: skip


def schemas(folder: pathlib.Path, text: str = LAX) -> None:
    (folder / "domain.rng").write_text(text)


def test_the_command(tmp_path: pathlib.Path) -> None:
    schemas(tmp_path)
    words = ("--split", "1/2,1/8", "--accelerator", "10DE:2330")
    ran = run(tmp_path / "out", *words, "--reserved-cores", "0", "-f", "json")
    assert (ran.code, ran.err) == (0, "")
    rows = json.loads(ran.out)
    assert len(rows) == 10
    assert rows[2] == {
        "slice": "1of8_1",
        "parent": "1of2_1",
        "nodes": [0],
        "cpus": [*range(8), *range(64, 72)],
        "memory": "120 GiB",
        "devices": ["0000:1b:00.0"],
    }
    again = run(tmp_path / "out", *words)
    assert (again.code, again.out) == (2, "")
    assert again.err.startswith("ceilometer-perf: error: --output ")
    assert "it already exists" in again.err


def test_nothing_half_written(tmp_path: pathlib.Path) -> None:
    words = ("--split", "1/2")
    schemas(tmp_path, LAX.replace('<ref name="any"/></start>',
            '<element name="x"><empty/></element></start>'))  # fmt: skip
    ran = run(tmp_path / "out", *words)
    assert ran.code == 2
    assert "libvirt's schema refuses" in ran.err
    schemas(tmp_path)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").write_text("")
    for output, said in (
        (tmp_path / "link", "it already exists"),
        (tmp_path, "it already exists"),
        (tmp_path / "none" / "out", "No such file"),
        (tmp_path / "file" / "out", "Not a directory"),
    ):
        ran = shell.run(
            "slice", "generate", "--output", str(output), *words,
            "--capabilities", str(ETC / "capabilities.xml"),
            "--schemas", str(tmp_path),
        )  # fmt: skip
        assert (ran.code, ran.out) == (2, "")
        assert f"error: --output {output}: {said}" in ran.err
    assert {path.name for path in tmp_path.iterdir()} == {
        "domain.rng", "link", "file",
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("--accelerator", "nvidia"),
        ("--accelerator", "10de:23300"),
        ("--reserved-cores", "-1"),
        ("--reserved-cores", "x"),
        ("--page-size", "4"),
        ("--page-size", "1B"),
        ("--page-size", "4X"),
        ("--page-size", "9999999999T"),
        ("--reserved-memory", "-1G"),
        ("--split", "1/2,1/3"),
    ],
)
def test_bad_words(tmp_path: pathlib.Path, words: tuple[str, ...]) -> None:
    schemas(tmp_path)
    ran = run(tmp_path / "out", "--split", "1/2", *words)
    assert (ran.code, ran.out) == (2, "")
    assert words[0] in ran.err
    assert not (tmp_path / "out").exists()


def test_a_host_is_needed(tmp_path: pathlib.Path) -> None:
    ran = shell.run(
        "slice", "generate", "--split", "1/2", "--output", str(tmp_path / "a")
    )
    assert ran.code == 2
