# SPDX-License-Identifier: Apache-2.0
"""``[pci] device_spec``: what Nova would say of the same device."""

import json
from typing import Any

import pytest
from nova.pci import devspec

from ceilometer_perf.guest import NovaConf
from ceilometer_perf.slices import nova_pci
from ceilometer_perf.slices.footprint import Footprint
from ceilometer_perf.slices.machine import Device, Machine
from ceilometer_perf.slices.template import Place

GPU, PF, VF = "0000:3b:00.0", "0000:af:00.0", "0000:af:02.1"
DEVICES = {
    GPU: Device(GPU, model="10de:2330"),
    PF: Device(PF, model="15b3:101d", functions=(VF,)),
    VF: Device(VF, model="15b3:101e"),
}
HOST = Machine({}, {}, pci=DEVICES)
PLACE = Place("a.xml", 7, "<address>")

SPECS: list[dict[str, Any]] = [
    {"address": address}
    for address in (
        "*:3b:00.*", "0000:3b:00.0", "3b:00", ":3b:00.0", "*:*:*.*", "3b:0",
        "0:3B:0.0", ".0", "*:af:*.1", "af:00.0", "1:3b:00.0",
        {"bus": "3b"}, {"bus": "a."}, {"slot": "0[0-2]", "function": "1"},
        {"domain": "0001"}, "0000:af:00.0", "0:af:0.0",
        {"domain": "0000", "bus": "af", "slot": "00", "function": "0"},
    )
] + [
    {"vendor_id": "10de"},
    {"vendor_id": "10DE", "product_id": "2330"},
    {"vendor_id": "10de", "product_id": "1"},
    {"product_id": "101e", "physical_network": "net1"},
    {"vendor_id": "*", "address": "*:3b:00.*"},
    {},
]  # fmt: skip


def shared(spec: Any, machine: Machine | None = HOST, *keys: str) -> list[str]:
    text = spec if isinstance(spec, str) else json.dumps(spec)
    footprint = Footprint(
        {}, dict.fromkeys(keys or DEVICES, PLACE), {}, {}, {}, PLACE
    )
    conf = NovaConf(pci_device_specs=(text,))
    found = [*nova_pci.breaches("a", footprint, conf, machine)]
    assert {each.rule for each in found} <= {"pci"}
    return [each.what.split()[2] for each in found]


@pytest.mark.parametrize("spec", SPECS, ids=json.dumps)
def test_as_nova_reads_it(
    spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_physical(*address: str) -> bool:
        return "{}:{}:{}.{}".format(*address) == PF

    monkeypatch.setattr(devspec.utils, "is_physical_function", is_physical)
    theirs = devspec.PciDeviceSpec(dict(spec))
    given = {
        key
        for key, device in DEVICES.items()
        if theirs.match(
            {
                "vendor_id": device.model[:4],
                "product_id": device.model[5:],
                "address": key,
                "parent_addr": PF if key == VF else None,
            }
        )
    }
    # Who has the physical function has the virtual one, too.
    if given & {PF, VF}:
        given |= {PF, VF}
    assert set(shared(spec)) == given


@pytest.mark.parametrize(("ours", "theirs"), [(PF, VF), (VF, PF)])
def test_another_function_of_the_same_device(ours: str, theirs: str) -> None:
    model = DEVICES[theirs].model
    conf = NovaConf(
        pci_device_specs=(
            json.dumps({"vendor_id": model[:4], "product_id": model[5:]}),
        )
    )
    footprint = Footprint({}, {ours: PLACE}, {}, {}, {}, PLACE)
    (found,) = nova_pci.breaches("a", footprint, conf, HOST)
    assert found.what.startswith(
        f"PCI device {ours} of a is one with {theirs}, which is in [pci] "
    )


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"devname": "eth0"}', '{"address": 7}',
     '{"address": {"bus": "("}}', '{"vendor_id": "x"}'],
)  # fmt: skip
def test_what_can_not_be_judged(text: str) -> None:
    assert shared(text) == []


def test_without_a_host_addresses_are_known() -> None:
    assert shared({"address": "3b:00.0"}, None) == [GPU]
    assert shared({"vendor_id": "10de"}, None) == []
