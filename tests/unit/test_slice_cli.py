# SPDX-License-Identifier: Apache-2.0
"""The slice commands as a shell sees them."""

import json
import pathlib
import sys
from typing import Any

import pytest

from ceilometer_perf.guest import slice_metadata
from ceilometer_perf.host import slices as host
from tests.unit import shell
from tests.unit.shell import Ran
from tests.unit.slice_cases import Slices, domain, hostdev, instance, pinned
from tests.unit.test_slice_build import RNG
from tests.unit.test_slice_machine import CAPABILITIES, DEVICES, ETC

EMULATOR = "<emulatorpin cpuset='%s'/></cputune>"


def tuned(*cpus: int, devices: str = "", node: int | None = None) -> str:
    """Everything is pinned."""
    bound = f"<numatune><memory mode='strict' nodeset='{node}'/></numatune>"
    numa = "" if node is None else bound
    text = pinned(*cpus, devices=devices, numa=numa)
    return text.replace("</cputune>", EMULATOR % cpus[0])


@pytest.fixture
def slices(tmp_path: pathlib.Path) -> Slices:
    """A whole, two halves that are as they should be, and a schema."""
    rng = RNG.replace(
        '<element name="vcpupin">',
        '<choice><ref name="pin"/><element name="vcpupin">',
    ).replace(
        "</element></zeroOrMore></element></optional>",
        "</element></choice></zeroOrMore></element></optional>"
        '<optional><element name="numatune"><ref name="any"/></element>'
        "</optional>",
    )
    rng = rng.replace(
        '<define name="any">',
        '<define name="pin"><element name="emulatorpin">'
        '<ref name="any"/></element></define><define name="any">',
    ).replace(
        '<element name="devices"><zeroOrMore><element name="disk">',
        '<element name="devices"><zeroOrMore><element name="hostdev">',
    )
    (tmp_path / "domain.rng").write_text(rng)
    return (
        Slices(tmp_path)
        .add("whole", tuned(1, 2, 3, 4, node=0))
        .add("half_1", tuned(1, 2, node=0).replace("1024", "512"), "whole")
        .add("half_2", tuned(3, 4, node=0).replace("1024", "512"), "whole")
    )


def run(slices: Slices, command: str, *words: str) -> Ran:
    conf = ("--nova-conf", str(slices.conf))
    return shell.run("slice", command, *conf, *words)


def validate(slices: Slices, *words: str) -> Ran:
    return run(slices, "validate", "--schemas", str(slices.folder), *words)


def found(slices: Slices, *words: str) -> list[dict[str, Any]]:
    ran = validate(slices, *words, "-f", "json")
    assert ran.err == ""
    rows: list[dict[str, Any]] = json.loads(ran.out)
    bad = any(row["level"] == "error" for row in rows)
    assert ran.code == int(bad)
    return rows


def test_the_tree(slices: Slices) -> None:
    ran = run(slices, "tree")
    assert ran.code == 0
    drawn = [line.split("|")[1] for line in ran.out.split("\n")[3:6]]
    assert [cell.rstrip() for cell in drawn] == [
        " whole", " ├─ half_1", " └─ half_2",
    ]  # fmt: skip
    assert json.loads(run(slices, "tree", "-f", "json").out) == [
        {"slice": name, "parent": parent, "resource_class": "CUSTOM_SLICE"}
        for name, parent in (
            ("whole", ""), ("half_1", "whole"), ("half_2", "whole"),
        )
    ]  # fmt: skip


def test_a_deeper_tree(slices: Slices) -> None:
    slices.add("a", domain(), "half_1").add("b", domain(), "half_2")
    slices.add("other", domain())
    out = run(slices, "tree", "-f", "value", "-c", "slice").out
    assert out.split() == ["whole", "half_1", "a", "half_2", "b", "other"]
    drawn = run(slices, "tree").out.split("\n")[3:9]
    assert [line.split("|")[1].rstrip() for line in drawn] == [
        " whole", " ├─ half_1", " │  └─ a", " └─ half_2", "    └─ b", " other",
    ]  # fmt: skip


def test_what_is_taken(
    slices: Slices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(uri: str) -> dict[str, tuple[str, ...]]:
        assert uri == "qemu:///system"
        return {"half_1": ("uuid-1",), "gone": ("uuid-2",)}

    monkeypatch.setattr(host, "taken", taken)
    ran = run(slices, "tree", "--connect", "qemu:///system", "-f", "json")
    assert [
        (row["slice"], row["state"], row["domains"])
        for row in json.loads(ran.out)
    ] == [
        ("whole", "blocked", []),
        ("half_1", "taken", ["uuid-1"]),
        ("half_2", "free", []),
    ]
    assert ran.err == (
        "uuid-2 has the slice gone, which is not in nova.conf\n"
    )


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ({"half_1": ("u1",), "half_2": ("u2",)}, []),
        ({"half_1": ("u1", "u2")}, ["u1, u2 have the slice half_1, which"]),
        (
            {"half_1": ("u1",), "whole": ("u2",)},
            [
                "u1 has the slice half_1, and another",
                "u2 has the slice whole, and another",
            ],
        ),
    ],
)
def test_what_should_never_be(
    slices: Slices,
    monkeypatch: pytest.MonkeyPatch,
    taken: dict[str, tuple[str, ...]],
    said: list[str],
) -> None:
    monkeypatch.setattr(host, "taken", lambda _uri: taken)
    ran = run(slices, "tree", "--connect", "qemu:///system", "-f", "json")
    assert ran.code == 0
    lines = ran.err.splitlines()
    assert len(lines) == len(said)
    assert all(map(str.startswith, lines, said))
    states = {row["slice"]: row["state"] for row in json.loads(ran.out)}
    assert all(states[name] == "taken" for name in taken)


def test_cpus_that_nova_gives_to_others(slices: Slices) -> None:
    with slices.conf.open("a") as file:
        file.write("[compute]\ncpu_dedicated_set = 3-9\ncpu_shared_set = 0\n")
    (row,) = found(slices)
    assert (row["level"], row["rule"]) == ("warning", "nova")
    assert row["what"].startswith("CPU 3-4 of whole is in [compute] cpu_ded")
    assert row["lines"][0]["text"] == '<vcpupin vcpu="2" cpuset="3"/>'


def test_no_slices(tmp_path: pathlib.Path) -> None:
    ran = run(Slices(tmp_path), "tree", "-f", "json")
    assert (ran.code, ran.out.strip()) == (0, "[]")
    assert ran.err.endswith("nova.conf: no [libvirt] slice_spec\n")


@pytest.mark.parametrize("command", ["tree", "validate", "render"])
def test_bad_entries(command: str, slices: Slices) -> None:
    slices.add("half_3", domain(), "nothing")
    more = {
        "render": ("--slice", "a", "--instance-json", "b", "--schemas", "."),
    }.get(command, ())
    ran = run(slices, command, *more)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "ceilometer-perf: error: [libvirt] slice_spec, entry 4 (half_3), "
        "conflict_parent: no entry is named nothing; name one of the "
        "entries, or leave it out\n"
    )


@pytest.mark.parametrize("library", ["jinja2", "jsonschema"])
def test_without_the_extra(
    slices: Slices, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command is there, and says what it lacks when it needs it."""
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(
        sys.modules, "ceilometer_perf.slices.rendering", raising=False
    )
    monkeypatch.delattr("ceilometer_perf.slices.rendering", raising=False)
    example = str(ETC / "instance.json")
    for words in (
        ("--slice", "whole", "--instance-json", example),
        ("--slice", "whole", "--instance-json", example, "-f", "json"),
    ):
        ran = run(slices, "render", *words)
        assert (ran.code, ran.out) == (2, "")
        assert f"this command needs {library}, which is not" in ran.err
        assert "pip install 'ceilometer-perf[slices]'" in ran.err


def test_clean(slices: Slices) -> None:
    assert found(slices) == []
    assert validate(slices).out == "no findings\n"
    files = ("--capabilities", str(ETC / "capabilities.xml"))
    devices = ("--devices", str(ETC / "devices.xml"))
    assert found(slices, *files) == []
    assert found(slices, *files, *devices) == []


def test_the_two_lines_that_clash(slices: Slices) -> None:
    slices.add("half_3", tuned(2, 5, node=0), "whole")
    rows = found(slices)
    assert [(row["rule"], row["slices"]) for row in rows] == [
        ("outside", ["half_3", "whole"]),
        ("overlap", ["half_1", "half_3"]),
        ("overlap", ["half_3", "whole"]),
    ]
    assert rows[1]["what"] == (
        "half_1 and half_3 both take CPU 2, and neither is part of the other"
    )
    assert rows[1]["lines"] == [
        {
            "file": str(slices.folder / "half_1.xml"),
            "line": 7,
            "text": '<vcpupin vcpu="1" cpuset="2"/>',
        },
        {
            "file": str(slices.folder / "half_3.xml"),
            "line": 6,
            "text": '<vcpupin vcpu="0" cpuset="2"/>',
        },
    ]
    shown = validate(slices, "--max-width", "200").out
    assert 'half_1.xml:7 <vcpupin vcpu="1" cpuset="2"/>' in shown
    assert 'half_3.xml:6 <vcpupin vcpu="0" cpuset="2"/>' in shown


def test_the_host_lacks(slices: Slices, tmp_path: pathlib.Path) -> None:
    gpu, none = hostdev("0000:9d:00.0"), hostdev("0000:00:00.0")
    slices.add("other", tuned(0, 200, devices=gpu + none, node=1))
    files = ("--capabilities", str(ETC / "capabilities.xml"))
    assert [row["rule"] for row in found(slices, *files)] == [
        "missing", "unchecked", "unchecked", "far",
    ]  # fmt: skip
    folder = tmp_path / "devices"
    folder.mkdir()
    (folder / "all.xml").write_bytes(DEVICES)
    rows = found(slices, *files, "--devices", str(folder))
    assert [(row["level"], row["rule"], row["what"]) for row in rows] == [
        ("error", "missing", "the host has no CPU 200"),
        ("error", "missing", "the host has no PCI device 0000:00:00.0"),
        *(
            (
                "warning",
                "far",
                f"{what} is behind NUMA node 1, the CPUs of other are in 0",
            )
            for what in ("PCI device 0000:9d:00.0", "memory of 1 MiB")
        ),
    ]


VIRTUAL = """
<device>
  <name>pci_0000_9d_00_1</name>
  <capability type='pci'>
    <domain>0</domain><bus>157</bus><slot>0</slot><function>1</function>
    <product id='0x2330'/><vendor id='0x10de'/>
  </capability>
</device>
"""


def test_devices_that_others_get_as_well(
    slices: Slices, tmp_path: pathlib.Path
) -> None:
    slices.add("one", tuned(5, devices=hostdev("0000:9d:00.0"), node=0))
    slices.add("two", tuned(6, devices=hostdev("0000:9d:00.1"), node=0))
    physical = DEVICES.decode().replace(
        "<bus>157</bus>",
        "<bus>157</bus><capability type='virt_functions'>"
        "<address domain='0' bus='0x9d' slot='0' function='1'/></capability>",
    )
    devices = tmp_path / "more.xml"
    devices.write_text(physical + VIRTUAL)
    with slices.conf.open("a") as file:
        file.write('[pci]\ndevice_spec = {"address": "*:9d:00.0"}\n')
    files = ("--capabilities", str(ETC / "capabilities.xml"))
    rows = found(slices, *files, "--devices", str(devices))
    told = [(row["rule"], row["slices"]) for row in rows]
    assert ("overlap", ["one", "two"]) in told
    assert ("pci", ["one"]) in told
    # Nova would give away the physical function under the virtual one.
    assert ("pci", ["two"]) in told


def test_a_host_that_is_asked(
    slices: Slices, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices.add("other", tuned(200))

    def hardware(_uri: str) -> host.Hardware:
        return host.Hardware(CAPABILITIES.decode(), (DEVICES.decode(),))

    monkeypatch.setattr(host, "hardware", hardware)
    rows = found(slices, "--connect", "qemu:///system")
    assert [row["what"] for row in rows] == [
        "the host has no CPU 200",
        "the memory is not bound to a NUMA node: add <numatune>",
    ]


def test_warnings_alone_are_clean(slices: Slices) -> None:
    slices.add("other", domain())
    ran = validate(slices, "-f", "json")
    assert ran.code == 0
    assert [row["what"] for row in json.loads(ran.out)] == [
        "vCPU 0 of other may run on any CPU: add a pin",
        "the emulator of other may run on any CPU: add a pin",
    ]


def test_the_schema_is_a_rule(slices: Slices) -> None:
    slices.add("other", tuned(9).replace("<os>", "<what/><os>"))
    (row,) = found(slices)
    assert (row["rule"], row["slices"]) == ("schema", ["other"])
    assert row["lines"][0]["text"] == "<what/>"


@pytest.mark.parametrize(
    ("words", "name", "said"),
    [
        (("--schemas", "/none"), "SchemaError", "/none/domain.rng"),
        (("--capabilities", "/none"), "InputError", "--capabilities /none"),
        (("--devices", "/none"), "InputError", "--devices needs --cap"),
        (("--instance-json", "/none"), "InputError", "--instance-json /none"),
        (
            ("--connect", "test:///none"),
            "SourceUnavailableError",
            "test:///none",
        ),
    ],
)
def test_bad_input(
    slices: Slices, words: tuple[str, ...], name: str, said: str
) -> None:
    ran = validate(slices, *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    error = json.loads(validate(slices, *words, "-f", "json").err)
    assert error["error"] == name


def test_one_host(slices: Slices) -> None:
    both = ("--capabilities", "a", "--connect", "b")
    assert validate(slices, *both).code == 2


def test_a_template_that_is_none(slices: Slices) -> None:
    slices.add("other", "<domain>\n{{ instance.nme }}</domain>")
    ran = validate(slices, "-f", "json")
    assert (ran.code, ran.out) == (2, "")
    error = json.loads(ran.err)
    assert error["error"] == "TemplateError"
    assert error["message"].endswith(
        "other.xml, line 2: 'dict object' has no attribute 'nme'"
    )


def render(slices: Slices, *words: str, **changes: Any) -> Ran:
    path = slices.folder / "instance.json"
    path.write_text(json.dumps(instance(**changes)))
    schemas = ("--schemas", str(slices.folder))
    return run(
        slices, "render", "--instance-json", str(path), *schemas, *words
    )


def test_render(slices: Slices) -> None:
    ran = render(slices, "--slice", "half_2", name="<b>&")
    assert (ran.code, ran.err) == (0, "")
    assert "<name>&lt;b&gt;&amp;</name>" in ran.out
    assert slice_metadata.read(ran.out) == "half_2"
    shown = render(slices, "--slice", "half_2", "-f", "json", name="<b>&")
    assert json.loads(shown.out) == {"xml": ran.out}


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("nothing", {}, "--slice nothing: no entry"),
        ("half_1", {"vcpus": "x"}, "--instance-json"),
        (
            "half_1",
            {"image": {"id": "", "properties": {"hw_cpu_policy": "x"}}},
            "Image property",
        ),
    ],
)
def test_render_refuses(
    slices: Slices, name: str, changes: dict[str, Any], said: str
) -> None:
    ran = render(slices, "--slice", name, **changes)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"ceilometer-perf: error: {said}")
    assert len(ran.err.splitlines()) == 1
