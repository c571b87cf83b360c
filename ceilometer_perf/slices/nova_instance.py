# SPDX-License-Identifier: Apache-2.0
"""What a template may know of an instance, from the XML that Nova made of it.

Nova wrote into it all that there is to know: flavor and image are in its
metadata from Nova 32 (2025.2) on.
"""

from collections.abc import Iterator
from typing import Any

from ceilometer_perf.guest import nova_metadata, xml
from ceilometer_perf.guest.nova_metadata import NAMESPACE
from ceilometer_perf.slices.context import Context
from ceilometer_perf.slices.errors import InstanceError

_PREFIX = {"nova": NAMESPACE}


def read(document: str) -> Context:
    """The first half of a template's context; see ``context``.

    :raises InstanceError: the XML is not Nova's.
    """
    root = xml.parse(document).getroot()
    instance = root.find("metadata/nova:instance", _PREFIX)
    if instance is None:
        raise InstanceError("The domain has no metadata of Nova's")
    noted = nova_metadata.read(document)
    if noted.flavor is None:
        raise InstanceError(
            "The domain's metadata has no extra specs: slices need Nova 32 "
            "or newer"
        )
    flavor, image = _child(instance, "flavor"), _child(instance, "image")
    return {
        "instance": {
            "name": root.findtext("name", ""),
            "display_name": _text(instance, "name"),
            "uuid": root.findtext("uuid", ""),
            "created": _text(instance, "creationTime"),
            "vcpus": int(_text(flavor, "vcpus")),
            "memory_mib": int(_text(flavor, "memory")),
            "project": _owner(instance, "project"),
            "user": _owner(instance, "user"),
            "flavor": {
                "id": flavor.get("id", ""),
                "name": flavor.get("name", ""),
                "extra_specs": dict(noted.flavor),
            },
            "image": {
                "id": image.get("uuid", ""),
                "properties": dict(noted.image or {}),
            },
        },
        "disks": list(_disks(root)),
        "interfaces": list(_interfaces(root)),
    }


def _child(parent: xml.Element, tag: str) -> xml.Element:
    found = parent.find(f"nova:{tag}", _PREFIX)
    if found is None:
        raise InstanceError(f"Nova's metadata has no <nova:{tag}>")
    return found


def _text(parent: xml.Element, tag: str) -> str:
    return _child(parent, tag).text or ""


def _owner(instance: xml.Element, tag: str) -> Context:
    found = instance.find(f"nova:owner/nova:{tag}", _PREFIX)
    if found is None:  # one that boots again by itself
        return {"id": "", "name": ""}
    return {"id": found.get("uuid", ""), "name": found.text or ""}


def _get(device: xml.Element, path: str, *names: str) -> str:
    """The first of some attributes of what is below a device."""
    found = device.find(path)
    values = (found.get(name) for name in names) if found is not None else ()
    return next(filter(None, values), "")


def _disks(root: xml.Element) -> Iterator[Context]:
    for disk in root.iterfind("devices/disk"):
        if disk.get("device", "disk") == "disk":
            yield {
                "type": disk.get("type", "file"),
                "source": _get(disk, "source", "file", "dev", "name"),
                "format": _get(disk, "driver", "type"),
                "target": _get(disk, "target", "dev"),
                "bus": _get(disk, "target", "bus"),
            }


def _interfaces(root: xml.Element) -> Iterator[Context]:
    for interface in root.iterfind("devices/interface"):
        found: dict[str, Any] = {
            "type": interface.get("type", ""),
            "source": _get(interface, "source", "bridge", "network", "dev"),
            "target": _get(interface, "target", "dev"),
            "mac": _get(interface, "mac", "address"),
            "model": _get(interface, "model", "type"),
        }
        mtu = _get(interface, "mtu", "size")
        yield {**found, "mtu": int(mtu)} if mtu else found
