# SPDX-License-Identifier: Apache-2.0
"""A slice's domain, from its template and the XML that Nova made."""

import json
from pathlib import Path

import pytest
from lxml import etree

from ceilometer_perf import guest
from ceilometer_perf.guest import slice_metadata, xml
from ceilometer_perf.slices import build, context, nova_instance, nova_parts
from ceilometer_perf.slices.errors import InstanceError, TemplateError
from ceilometer_perf.slices.spec import SliceSpec

NOVAS = Path(__file__).with_name("nova-instance.xml").read_text()
TEMPLATE = """\
<domain type='kvm'>
  <name>{{ instance.name }}</name>
  <memory unit='MiB'>512</memory>
  <memoryBacking><hugepages/></memoryBacking>
  <vcpu>2</vcpu>
  <cputune>
    <vcpupin vcpu='0' cpuset='4'/>
    <vcpupin vcpu='1' cpuset='5'/>
    <emulatorpin cpuset='6'/>
  </cputune>
  <os><type>hvm</type></os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <disk type='file' device='disk'><target dev='vda'/></disk>
    <hostdev mode='subsystem' type='pci'>
      <source>
        <address domain='0' bus='1' slot='2' function='0'/>
      </source>
    </hostdev>
    <interface type='hostdev'>
      <source>
        <address type='pci' domain='0' bus='1' slot='3' function='0'/>
      </source>
    </interface>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def put(template: str, novas: str = NOVAS) -> xml.Element:
    return xml.parse(nova_parts.put_into(template, novas)).getroot()


def text(element: xml.Element | None) -> str:
    assert element is not None
    whole = etree.tostring(element, encoding="unicode", with_tail=False)
    return "".join(str(whole).split())


@pytest.fixture
def made() -> xml.Element:
    return put(TEMPLATE)


@pytest.fixture
def novas() -> xml.Element:
    return xml.parse(NOVAS).getroot()


@pytest.mark.parametrize(
    "path",
    [
        "name", "uuid", "sysinfo", "os", "clock",
        "metadata/{http://openstack.org/xmlns/libvirt/nova/1.1}instance",
        "devices/disk", "devices/serial", "devices/console",
        "devices/interface[@type='ethernet']", "devices/rng",
    ],
)  # fmt: skip
def test_what_is_novas(
    made: xml.Element, novas: xml.Element, path: str
) -> None:
    theirs = [*map(text, novas.findall(path))]
    assert theirs
    assert [*map(text, made.findall(path))] == theirs


@pytest.mark.parametrize(
    "path",
    [
        "memory", "memoryBacking", "vcpu", "cpu", "cputune/vcpupin",
        "cputune/emulatorpin", "devices/hostdev", "devices/memballoon",
        "devices/interface[@type='hostdev']",
    ],
)  # fmt: skip
def test_what_is_the_templates(made: xml.Element, path: str) -> None:
    own = [*map(text, xml.parse(TEMPLATE).getroot().findall(path))]
    assert own
    assert [*map(text, made.findall(path))] == own


def test_a_flavor_with_quotes_in_its_name() -> None:
    novas = NOVAS.replace("name='half'", "name=\"Bob's 'half'\"")
    root = put(TEMPLATE, novas)
    (flavor,) = root.iterfind("metadata/{*}instance/{*}flavor")
    assert [*flavor.attrib.values()] == ["Bob's 'half'", "17"]


def test_features_of_both(made: xml.Element) -> None:
    found = [child.tag for child in made.iterfind("features/*")]
    assert found == ["acpi", "apic", "vmcoreinfo"]


def test_the_type_is_the_hosts() -> None:
    other = NOVAS.replace("<domain type='kvm'", "<domain type='qemu'", 1)
    other = other.replace('<domain type="kvm"', '<domain type="qemu"', 1)
    assert put(TEMPLATE, other).get("type") == "qemu"


def test_an_nvme_disk_is_a_device_of_the_slice() -> None:
    nvme = (
        "<disk type='nvme' device='disk'>"
        "<source type='pci' managed='yes' namespace='1'>"
        "<address domain='0' bus='1' slot='4' function='0'/></source>"
        "<target dev='vdz' bus='virtio'/></disk>"
    )
    root = put(TEMPLATE.replace("<disk", f"{nvme}<disk", 1))
    theirs = xml.parse(NOVAS).getroot().findall("devices/disk")
    # Nova takes the first one for the root disk.
    assert [*map(text, root.findall("devices/disk"))] == [
        *map(text, theirs), text(etree.fromstring(nvme)),
    ]  # fmt: skip


def test_disks_stand_where_the_templates_did(made: xml.Element) -> None:
    tags = [child.tag for child in made.iterfind("devices/*")]
    assert tags[0] == "disk"
    assert tags.index("hostdev") > tags.index("disk")


#: As Nova describes ports with vnic_type direct and macvtap.
DIRECT = """
<interface type='hostdev' managed='yes'>
  <mac address='fa:16:3e:00:00:02'/><driver name='vfio'/>
  <source>
    <address type='pci' domain='0' bus='129' slot='2' function='1'/>
  </source>
  <vlan><tag id='100'/></vlan>
</interface>
<interface type='direct'>
  <mac address='fa:16:3e:00:00:03'/><model type='virtio'/>
  <source mode='passthrough' dev='enp129s0f0v2'/>
</interface>
"""


def test_ports_that_are_virtual_functions() -> None:
    novas = NOVAS.replace("<interface ", f"{DIRECT}<interface ", 1)
    path = "devices/interface"
    theirs = [*map(text, xml.parse(novas).getroot().findall(path))]
    found = [*map(text, put(TEMPLATE, novas).findall(path))]
    own = put(TEMPLATE).find(f"{path}[@type='hostdev']")
    assert sorted(found) == sorted([*theirs, text(own)])
    known = nova_instance.read(novas)
    assert context.parse(json.dumps(known), "it") == known
    assert [each["mac"][-1] for each in known["interfaces"]] == ["2", "3", "1"]


def test_controllers_are_told_by_their_bus() -> None:
    own = "<controller type='usb' model='none'/>"
    root = put(TEMPLATE.replace("<memballoon", f"{own}<memballoon"))
    found = [
        (c.get("type"), c.get("model"))
        for c in root.iterfind("devices/controller")
    ]
    assert found == [("usb", "none"), ("scsi", "virtio-scsi")]


def test_iothreads_run_with_the_emulator() -> None:
    novas = NOVAS.replace("<vcpu", "<iothreads>1</iothreads><vcpu", 1)
    root = put(TEMPLATE, novas)
    assert root.findtext("iothreads") == "1"
    (pin,) = root.iterfind("cputune/iothreadpin")
    assert (pin.get("iothread"), pin.get("cpuset")) == ("1", "6")
    unpinned = put(TEMPLATE.replace("<emulatorpin cpuset='6'/>", ""), novas)
    assert unpinned.find("cputune/iothreadpin") is None


def test_a_cpu_that_the_template_leaves_to_nova() -> None:
    root = put(TEMPLATE.replace("<cpu mode='host-passthrough'/>", ""))
    (cpu,) = root.iterfind("cpu")
    assert cpu.get("mode") == "host-model"
    assert cpu.find("topology") is None


def test_machine_types_must_be_of_a_kind() -> None:
    template = TEMPLATE.replace("<type>", "<type machine='q35'>")
    with pytest.raises(TemplateError, match="hw_machine_type"):
        put(template)
    novas = NOVAS.replace("machine='pc'", "machine='pc-q35-9.2'")
    kind = put(template, novas).find("os/type")
    assert kind is not None
    assert kind.get("machine") == "pc-q35-9.2"


def test_encrypted_memory_is_refused() -> None:
    novas = NOVAS.replace(
        "<devices>", "<launchSecurity type='sev'/><devices>", 1
    )
    with pytest.raises(TemplateError, match="encrypted"):
        put(TEMPLATE, novas)


def test_the_context_is_a_templates() -> None:
    found = nova_instance.read(NOVAS)
    assert context.parse(json.dumps(found), "it") == found
    assert found["instance"]["flavor"]["extra_specs"]["hw:pmu"] == "true"
    (disk,) = found["disks"]
    assert disk["target"] == "vda"
    (interface,) = found["interfaces"]
    assert interface == {
        "type": "ethernet",
        "source": "",
        "target": "tap0123abcd-45",
        "mac": "fa:16:3e:00:00:01",
        "model": "virtio",
        "mtu": 1450,
    }


@pytest.mark.parametrize(
    ("novas", "said"),
    [
        ("<domain/>", "no metadata"),
        (NOVAS.replace("extraSpecs", "others"), "Nova 32"),
        (NOVAS.replace("nova:vcpus", "nova:others"), "<nova:vcpus>"),
    ],
)
def test_xml_that_is_not_novas(novas: str, said: str) -> None:
    with pytest.raises(InstanceError, match=said):
        nova_instance.read(novas)


def test_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(TEMPLATE)
    conf = guest.NovaConf(perf_events=("cpu_clock",))
    built = build.boot(
        SliceSpec("a", "CUSTOM_A", str(path)),
        NOVAS,
        lambda asked: guest.resolve(asked, conf),
    )
    root = xml.parse(built).getroot()
    assert slice_metadata.name_in(root) == "a"
    assert [e.get("name") for e in root.iterfind("perf/event")] == [
        "cpu_clock"
    ]
    # The flavor asks for it.
    assert text(root.find("features/pmu")) == '<pmustate="on"/>'


def test_a_template_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(TEMPLATE.replace("<type>", "<type machine='q35'>"))
    with pytest.raises(TemplateError, match=r"a\.xml: The template's mach"):
        build.boot(SliceSpec("a", "CUSTOM_A", str(path)), NOVAS, guest.resolve)
