# SPDX-License-Identifier: Apache-2.0
"""``[pci] device_spec`` of nova.conf: what Nova hands to any instance.

Written after ``nova.pci.devspec``. An entry that names a network device is
not looked at: which PCI device that is, only the host knows.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ceilometer_perf.guest.nova_conf import NovaConf
from ceilometer_perf.slices.breach import Breach
from ceilometer_perf.slices.footprint import Footprint
from ceilometer_perf.slices.machine import Device, Machine

_FIELDS = ("domain", "bus", "slot", "function")
_WIDTHS = (4, 2, 2, 1)  # hexadecimal digits
_ANY = "*"

Spec = Mapping[str, Any]


def breaches(
    name: str,
    footprint: Footprint,
    conf: NovaConf,
    machine: Machine | None,
) -> Iterator[Breach]:
    """The devices of a slice that Nova would give to others as well."""
    devices = (machine.pci if machine is not None else None) or {}
    parents = {vf: key for key, d in devices.items() for vf in d.functions}
    specs = [*_specs(conf.pci_device_specs)]
    for key, place in footprint.pci.items():
        device = devices.get(key)
        # Who has a physical function has the virtual ones, too.
        same = (key, parents.get(key), *(device.functions if device else ()))
        given = (
            (each, text)
            for each in filter(None, same)
            for text, spec in specs
            if _has(spec, each, parents.get(each), devices.get(each))
        )
        for each, text in itertools.islice(given, 1):
            other = "" if each == key else f"is one with {each}, which "
            what = (
                f"PCI device {key} of {name} {other}is in [pci] device_spec = "
                f"{text[:100]}, so Nova gives it to other instances, too: "
                "leave it out there"
            )
            yield Breach("pci", (name,), what, (place,))


def _specs(texts: Iterable[str]) -> Iterator[tuple[str, Spec]]:
    for text in texts:
        try:
            spec = json.loads(text)
        except ValueError:  # with which nova-compute does not start
            continue
        if isinstance(spec, dict) and "devname" not in spec:
            yield text, spec


def _has(
    spec: Spec, key: str, parent: str | None, device: Device | None
) -> bool:
    """``parent``: the physical function of a virtual one."""
    for field, position in (("vendor_id", 0), ("product_id", 1)):
        wanted = str(spec.get(field, _ANY)).strip()
        if wanted == _ANY:
            continue
        if device is None or not _same(
            wanted, device.model.split(":")[position]
        ):
            return False
    parts = _parts(spec.get("address") or "*:*:*.*")
    if _match(parts, key):
        return True
    # One that names a physical function alone means its virtual ones, too.
    alone = all(re.fullmatch(r"[0-9a-fA-F]+\$?", part) for part in parts)
    return parent is not None and alone and _match(parts, parent)


def _same(wanted: str, there: str) -> bool:
    try:
        return int(wanted, 16) == int(there, 16)
    except ValueError:
        return False


def _parts(address: Any) -> list[str]:
    """A pattern for each field of a device's address."""
    if isinstance(address, str):
        return _globs(address)
    if isinstance(address, dict):
        return [str(address.get(field, ".*")) for field in _FIELDS]
    return []


def _match(parts: list[str], key: str) -> bool:
    try:
        return bool(parts) and all(
            re.match(part, field)
            for part, field in zip(parts, re.split("[:.]", key), strict=True)
        )
    except re.error:  # with which nova-compute does not start
        return False


def _globs(address: str) -> list[str]:
    """What is left out or ``*`` is any: ``*:0a:00.*``, ``0a:00``."""
    rest, _, function = address.partition(".")
    fields = [field.strip() or _ANY for field in rest.split(":")]
    found = [*[_ANY] * (3 - len(fields)), *fields, function.strip() or _ANY]
    return [
        ".*" if field == _ANY else f"{field.lower().zfill(width)}$"
        for field, width in zip(found[:4], _WIDTHS, strict=True)
    ]
