# SPDX-License-Identifier: Apache-2.0
"""Check a domain against its requirements, or make it meet them."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from ceilometer_perf.guest import domain, errors, xml
from ceilometer_perf.guest.elements import ELEMENTS, Element
from ceilometer_perf.guest.requirements import Requirements


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is missing or wrong in the XML."""

    what: str
    where: str
    why: str
    remedy: str


def check(document: str | bytes, requirements: Requirements) -> list[Finding]:
    """What is missing or wrong in the domain; empty if nothing is."""
    root = _root(xml.parse(document), requirements)
    found = (f for e in ELEMENTS for f in _findings(root, e, requirements))
    # One missing pin is the fault of every element that builds on it.
    return list({finding.what: finding for finding in found}.values())


def _findings(
    root: xml.Element, element: Element[Any], requirements: Requirements
) -> Iterator[Finding]:
    try:
        wanted = element.wanted(root, requirements)
    except errors.NotInXMLError as error:
        yield Finding(error.what, element.where, element.why, error.remedy)
        return
    if wanted is not None:
        for what in element.faults(root, wanted):
            yield Finding(what, element.where, element.why, element.remedy)


def apply(document: str | bytes, requirements: Requirements) -> str:
    """The domain with all that is required; the rest stays as it was.

    A domain that already meets them is returned unchanged. Raises
    NotInXMLError if it lacks what only Nova can choose.
    """
    tree = xml.parse(document)
    root = _root(tree, requirements)
    changed = False
    for element in ELEMENTS:
        wanted = element.wanted(root, requirements)
        if wanted is not None and any(element.faults(root, wanted)):
            element.merge(root, wanted)
            changed = True
    if changed:
        return xml.write(tree, document)
    return document if isinstance(document, str) else document.decode()


def _root(tree: Any, requirements: Requirements) -> xml.Element:
    """The domain, if the requirements were worked out for its vCPUs."""
    root: xml.Element = tree.getroot()
    realtime = requirements.realtime
    if realtime is not None:
        asked = len(realtime.vcpus | realtime.housekeeping)
        count = domain.vcpu_count(root)
        if asked != count:
            raise errors.DomainXMLError(
                f"The domain's vCPU count is {count}, its flavor's {asked}: "
                "give the flavor that this domain was made from"
            )
    return root
