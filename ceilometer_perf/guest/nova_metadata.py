# SPDX-License-Identifier: Apache-2.0
"""What Nova recorded in a domain's metadata about an instance.

``LibvirtConfigGuestMetaNovaInstance`` writes it; extra specs and image
properties are in it from Nova 32 (2025.2) on.
"""

import dataclasses
from collections.abc import Mapping

from ceilometer_perf.guest import xml

NAMESPACE = "http://openstack.org/xmlns/libvirt/nova/1.1"
#: That of older releases of Nova.
OLD_NAMESPACE = "http://openstack.org/xmlns/libvirt/nova/1.0"


@dataclasses.dataclass(frozen=True)
class NovaMetadata:
    """Extra specs and image properties; None if Nova recorded none."""

    flavor: Mapping[str, str] | None = None
    image: Mapping[str, str] | None = None


def read(document: str | bytes) -> NovaMetadata:
    """The metadata of a domain, as far as it goes."""
    instance = xml.parse(document).find(f"metadata/{{{NAMESPACE}}}instance")
    if instance is None:
        return NovaMetadata()
    return NovaMetadata(
        flavor=_pairs(instance, "flavor/extraSpecs", "extraSpec"),
        image=_pairs(instance, "image/properties", "property"),
    )


def display_name(document: str | bytes) -> str | None:
    """What the user calls the instance; None for what is not Nova's."""
    root = xml.parse(document)
    for namespace in (NAMESPACE, OLD_NAMESPACE):
        instance = root.find(f"metadata/{{{namespace}}}instance")
        if instance is not None:
            return instance.findtext(f"{{{namespace}}}name") or ""
    return None


def _pairs(
    instance: xml.Element, path: str, tag: str
) -> Mapping[str, str] | None:
    """The ``name`` of each child with its text; None without the parent."""
    qualified = "/".join(f"{{{NAMESPACE}}}{step}" for step in path.split("/"))
    parent = instance.find(qualified)
    if parent is None:
        return None
    return {
        child.get("name", ""): child.text or ""
        for child in parent.iterfind(f"{{{NAMESPACE}}}{tag}")
    }
