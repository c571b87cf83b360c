# SPDX-License-Identifier: Apache-2.0
"""From a template to the domain that would boot."""

import pathlib

import pytest
from lxml import etree

from ceilometer_perf import guest
from ceilometer_perf.guest import slice_metadata
from ceilometer_perf.slices.build import Builder
from ceilometer_perf.slices.errors import SliceError
from ceilometer_perf.slices.schema import Schema, SchemaError
from tests.unit.slice_cases import Slices, domain, instance, pinned

#: As much of libvirt's schema as there is to test here.
RNG = """\
<grammar xmlns="http://relaxng.org/ns/structure/1.0"
 datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
<start><element name="domain"><attribute name="type"/><interleave>
  <element name="name"><text/></element>
  <optional><element name="metadata"><ref name="any"/></element></optional>
  <element name="memory"><attribute name="unit"/><data type="int"/></element>
  <element name="vcpu"><data type="int"/></element>
  <optional><element name="cputune"><zeroOrMore><element name="vcpupin">
    <attribute name="vcpu"><data type="int"/></attribute>
    <attribute name="cpuset"/>
  </element></zeroOrMore></element></optional>
  <element name="os"><ref name="any"/></element>
  <optional><element name="features"><ref name="any"/></element></optional>
  <optional><element name="perf"><ref name="any"/></element></optional>
  <element name="devices"><zeroOrMore><element name="disk">
    <ref name="any"/></element></zeroOrMore></element>
</interleave></element></start>
<define name="any"><zeroOrMore><choice>
  <attribute><anyName/></attribute><text/>
  <element><anyName/><ref name="any"/></element>
</choice></zeroOrMore></define>
</grammar>
"""


@pytest.fixture
def schemas(tmp_path: pathlib.Path) -> str:
    (tmp_path / "domain.rng").write_text(RNG)
    return str(tmp_path)


@pytest.fixture
def builder(schemas: str) -> Builder:
    return Builder(Schema(schemas), guest.NovaConf(("cpu_clock",)))


def build(builder: Builder, slices: Slices, **changes: object) -> str:
    return builder.build(slices.specs()[0], instance(**changes))


def test_all_is_in_it(builder: Builder, tmp_path: pathlib.Path) -> None:
    slices = Slices(tmp_path).add("half_1", pinned(4, 5))
    text = build(
        builder, slices,
        flavor={"id": "1", "name": "a", "extra_specs": {"hw:pmu": "yes"}},
    )  # fmt: skip
    root = etree.fromstring(text)
    assert slice_metadata.read(text) == "half_1"
    assert root.findtext("name") == "instance-00000001"
    pins = [pin.get("cpuset") for pin in root.iterfind("cputune/vcpupin")]
    assert pins == ["4", "5"]
    assert root.find("features/pmu[@state='on']") is not None
    assert root.find("perf/event[@name='cpu_clock']") is not None


def test_a_template_knows_its_slice(
    builder: Builder, tmp_path: pathlib.Path
) -> None:
    comment = (
        "<!-- {{ slice.name }} {{ slice.resource_class }} {{ slice.parent }}"
        " {{ requirements.perf_events|join }} -->"
    )
    slices = Slices(tmp_path).add("half_1", domain(tuning=comment))
    shown = "<!-- half_1 CUSTOM_SLICE None cpu_clock -->"
    assert shown in build(builder, slices)


@pytest.mark.parametrize(
    ("template", "line", "shown"),
    [
        (domain(tuning="  <!-- -->\n  <nonsense/>"), 6, "<nonsense"),
        (domain(devices="  <disk/>\n<nonsense/>"), 10, "<nonsense"),
        (pinned(4, 5).replace("'1'", "'b'"), 7, '<vcpupin vcpu="b"'),
        (domain().replace("<vcpu>1", "<vcpu>one"), 4, "<vcpu"),
        (domain().replace("1024<", "much<"), 3, "<memory"),
        (
            "{# one #}\n{% if 1 %}\n" + domain(tuning="<x/>") + "{% endif %}",
            7,
            "<x",
        ),
    ],
)
def test_the_schema_refuses(
    builder: Builder,
    tmp_path: pathlib.Path,
    template: str,
    line: int,
    shown: str,
) -> None:
    slices = Slices(tmp_path).add("half_1", template)
    with pytest.raises(SchemaError) as caught:
        build(builder, slices)
    file = tmp_path / "half_1.xml"
    said = f"{file}, line {line}: libvirt's schema refuses {shown}"
    assert str(caught.value).startswith(said)


QEMU = """\
  <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
    <qemu:nope value='x'/>
  </qemu:commandline>
"""


def test_the_schema_refuses_what_is_not_libvirts_own(
    schemas: str, tmp_path: pathlib.Path
) -> None:
    """libxml2 names it by a prefix that stands further down."""
    path = tmp_path / "domain.rng"
    path.write_text(
        RNG.replace(
            '<optional><element name="perf">',
            '<optional><element name="commandline" ns="http://libvirt.org/'
            'schemas/domain/qemu/1.0"><zeroOrMore><element name="arg">'
            '<attribute name="value" ns=""/></element></zeroOrMore></element>'
            '</optional><optional><element name="perf">',
        )
    )
    builder = Builder(Schema(schemas), guest.NovaConf())
    slices = Slices(tmp_path).add(
        "half_1", domain(devices="").replace("</domain>", f"{QEMU}</domain>")
    )
    with pytest.raises(SchemaError, match="refuses <qemu:"):
        build(builder, slices)


def test_the_schema_refuses_what_is_added(
    schemas: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "domain.rng"
    path.write_text(RNG.replace('name="perf"', 'name="nope"'))
    builder = Builder(Schema(schemas), guest.NovaConf(("cpu_clock",)))
    slices = Slices(tmp_path).add("half_1", domain())
    with pytest.raises(
        SchemaError, match=r"half_1\.xml: .* refuses <perf> once"
    ):
        build(builder, slices)


@pytest.mark.parametrize("text", [None, "", "<a/>", "<!DOCTYPE a><a/>"])
def test_no_schema(tmp_path: pathlib.Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "domain.rng").write_text(text)
    with pytest.raises(SchemaError, match="--schemas") as caught:
        Schema(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}/domain.rng: ")
    assert "\n" not in str(caught.value)


def test_pins_are_the_templates_to_say(
    builder: Builder, tmp_path: pathlib.Path
) -> None:
    slices = Slices(tmp_path).add("half_1", domain(vcpus=2))
    specs = {
        "hw:cpu_realtime": "1",
        "hw:cpu_realtime_mask": "^0",
        "hw:cpu_policy": "dedicated",
    }
    flavor = {"id": "1", "name": "a", "extra_specs": specs}
    with pytest.raises(
        SliceError, match=r"half_1\.xml: vCPU 0-1 of a realtime"
    ):
        build(builder, slices, vcpus=2, flavor=flavor)
    with pytest.raises(SliceError, match="vCPU count is 2, its flavor's"):
        build(builder, slices, vcpus=3, flavor=flavor)


def test_what_nova_refuses(builder: Builder, tmp_path: pathlib.Path) -> None:
    slices = Slices(tmp_path).add("half_1", domain())
    flavor = {"id": "", "name": "", "extra_specs": {"hw:cpu_policy": "x"}}
    with pytest.raises(guest.GuestError, match="hw:cpu_policy=x"):
        build(builder, slices, flavor=flavor)


def test_no_tenant_writes_the_template(
    builder: Builder, tmp_path: pathlib.Path
) -> None:
    name = "a</name><devices><disk type='block'/></devices>{{ 1 / 0 }}"
    slices = Slices(tmp_path).add("half_1", domain())
    root = etree.fromstring(build(builder, slices, name=name))
    assert root.findtext("name") == name
    assert root.find("devices/disk") is None
