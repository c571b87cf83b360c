# SPDX-License-Identifier: Apache-2.0
"""The slice that a domain runs in, kept in the domain's own metadata.

libvirt keeps what stands there in a namespace of its own for as long as the
domain is defined, so no database is needed to know which domain has which
slice.
"""

from ceilometer_perf.guest import domain, xml

NAMESPACE = "http://openstack.org/xmlns/ceilometer-perf/slice/1.0"

_TAG = f"{{{NAMESPACE}}}slice"


def read(document: str | bytes) -> str | None:
    """The name of the slice; None for a domain that runs in none."""
    return name_in(xml.parse(document).getroot())


def name_in(root: xml.Element) -> str | None:
    """The same of a domain that is parsed already."""
    noted = root.find(f"metadata/{_TAG}")
    return None if noted is None else noted.get("name") or None


def write(document: str | bytes, name: str) -> str:
    """The domain as one that runs in a slice, in that one only."""
    tree = xml.parse(document)
    metadata = domain.container(tree.getroot(), "metadata")
    for other in metadata.findall(_TAG):
        xml.remove(other)
    noted = xml.insert(metadata, _TAG, (_TAG,), {"slice": NAMESPACE})
    noted.set("name", name)
    return xml.write(tree, document)
