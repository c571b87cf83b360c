# SPDX-License-Identifier: Apache-2.0
"""The XML of the lab's guests, as Nova would have written it."""

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from tests.lab import EVENTS, Guest, boot

NOVA = {"nova": "http://openstack.org/xmlns/libvirt/nova/1.1"}
INSTANCE = "./metadata/nova:instance"


def parse(guest: Guest, virt: str = "kvm", **options: Any) -> Any:
    return etree.fromstring(guest.xml(virt, **options))


def texts(domain: Any, path: str) -> list[str]:
    return [found.text for found in domain.findall(path, NOVA)]


def test_identity_follows_from_the_name() -> None:
    one, again, other = Guest("one"), Guest("one", "spin"), Guest("other")
    assert one.uuid == again.uuid != other.uuid
    assert uuid.UUID(one.uuid).version == 5
    assert one.domain_name == f"instance-{one.uuid[:8]}"
    assert dataclasses.replace(one, name="other").uuid == other.uuid


def test_domain_name_can_be_chosen() -> None:
    domain = parse(Guest("one", domain="instance-00000001"))
    assert texts(domain, "name") == ["instance-00000001"]
    assert texts(domain, f"{INSTANCE}/nova:name") == ["one"]


def test_hardware() -> None:
    domain = parse(
        Guest("one", "spin", vcpus=3, memory_mib=32), boot=Path("/lab/boot")
    )
    assert domain.get("type") == "kvm"
    assert texts(domain, "vcpu") == ["3"]
    assert texts(domain, "memory") == ["32"]
    assert domain.find("memory").get("unit") == "MiB"
    assert texts(domain, "os/loader") == ["/lab/boot/spin"]
    assert domain.find("os/loader").get("type") == "rom"


@pytest.mark.parametrize("virt", ["kvm", "qemu"])
def test_guest_overrides_what_the_lab_runs_on(virt: str) -> None:
    assert parse(Guest("one"), virt).get("type") == virt
    assert parse(Guest("one", virt="qemu"), virt).get("type") == "qemu"


def test_has_all_events_by_default() -> None:
    events = parse(Guest("one")).findall("perf/event")
    assert [event.get("name") for event in events] == list(EVENTS)
    assert {event.get("enabled") for event in events} == {"yes"}
    assert len(set(EVENTS)) == 19


def test_without_events_there_is_no_perf() -> None:
    # The schema does not allow an empty one.
    assert parse(Guest("one", events=())).find("perf") is None


def test_metadata_of_nova_today() -> None:
    domain = parse(
        Guest(
            "one",
            vcpus=2,
            extra_specs={"hw:pmu": "true"},
            image_properties={"hw_pmu": "true"},
        ),
        flavor="lab.emulated-pmu",
    )
    flavor = domain.find(f"{INSTANCE}/nova:flavor", NOVA)
    assert flavor.get("name") == "lab.emulated-pmu"
    assert uuid.UUID(flavor.get("id"))
    assert [child.text for child in flavor][:5] == ["16", "0", "0", "0", "2"]
    spec = flavor.find("nova:extraSpecs/nova:extraSpec", NOVA)
    assert (spec.get("name"), spec.text) == ("hw:pmu", "true")
    property_ = domain.find(
        f"{INSTANCE}/nova:image/nova:properties/nova:property", NOVA
    )
    assert (property_.get("name"), property_.text) == ("hw_pmu", "true")
    for path in ("nova:owner/nova:user", "nova:owner/nova:project"):
        assert domain.find(f"{INSTANCE}/{path}", NOVA).get("uuid")


def test_metadata_in_novas_order() -> None:
    instance = parse(Guest("one")).find(INSTANCE, NOVA)
    names = " ".join(etree.QName(child).localname for child in instance)
    assert names == "package name creationTime flavor image owner root"


def test_metadata_of_an_older_nova() -> None:
    domain = parse(Guest("one", flavor_id=None))
    flavor = domain.find(f"{INSTANCE}/nova:flavor", NOVA)
    assert flavor.get("id") is None
    assert flavor.find("nova:extraSpecs", NOVA) is None
    assert domain.find(f"{INSTANCE}/nova:image", NOVA) is None
    assert domain.find(f"{INSTANCE}/nova:root", NOVA).get("uuid")


def test_not_one_of_novas() -> None:
    assert parse(Guest("one", metadata=False)).find("metadata") is None


def test_extra_elements() -> None:
    domain = parse(
        Guest("one", extra=("<cputune><shares>7</shares></cputune>",))
    )
    assert texts(domain, "cputune/shares") == ["7"]


def test_extra_element_replaces_the_labs_own() -> None:
    perf = "<perf><event name='cmt' enabled='no'/></perf>"
    domain = parse(Guest("one", extra=(perf, "<vcpu>4</vcpu>")))
    assert [e.get("name") for e in domain.findall("perf/event")] == ["cmt"]
    assert texts(domain, "vcpu") == ["4"]


@pytest.mark.parametrize("code", boot.CODES.values())
def test_firmware_runs_the_code(code: bytes) -> None:
    rom = boot.image(code)
    assert len(rom) == boot.SIZE
    # A jump to its beginning, from where the first vCPU begins.
    assert rom[boot.RESET :][:5] == bytes.fromhex("ea 0000 00f0")
    assert rom.startswith(boot.ENTER + code)
