# SPDX-License-Identifier: Apache-2.0
"""What an instance's ``<cputune>`` says of caches and of bandwidth.

The elements are those of libvirt's domain XML: ``cachetune`` reserves a part
of a cache (CAT), and, like ``memorytune`` and ``energytune``, may hold
monitors.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Mapping

from lxml import etree

from ceilometer_perf.guest import domain, errors, xml
from ceilometer_perf.guest.elements.monitors import ALL_TUNES
from ceilometer_perf.host.probe.virt import UNITS

#: Of documents that were parsed. An agent runs for months, in which instances
#: come and go, and each document takes 10 KiB or so.
_PARSED = 1024


def has_monitors(document: str) -> bool:
    """Whether there is a monitor of libvirt's, of any kind."""
    # Few documents have one, and only those are worth memory.
    return "<monitor" in document and _has_monitors(document)


@functools.lru_cache(_PARSED)
def vcpus(document: str) -> frozenset[int]:
    """The vCPUs that an instance with monitors has now."""
    return domain.online_vcpus(xml.parse(document).getroot())


@functools.lru_cache(_PARSED)
def monitored(
    document: str,
) -> Mapping[str, tuple[frozenset[int] | None, ...]]:
    """The vCPUs of each monitor by the element that it is in.

    None is the whole process.
    """
    tune = _cputune(document)
    return {
        tag: tuple(
            None if found.get("vcpus") is None
            else domain.cpu_set(found, "vcpus")
            for found in tune.iterfind(f"{tag}/monitor")
            if found.get("level", "3") == "3"
        )
        for tag in ALL_TUNES
        if tune is not None
    }  # fmt: skip


def reserved(document: str) -> Mapping[int, int]:
    """Bytes of each L3 cache that are kept for the instance, by its id."""
    return _reserved(document) if "<cachetune" in document else {}


@functools.lru_cache(_PARSED)
def _has_monitors(document: str) -> bool:
    tune = _cputune(document)
    return tune is not None and any(
        tune.find(f"{tag}/monitor") is not None for tag in ALL_TUNES
    )


@functools.lru_cache(_PARSED)
def _reserved(document: str) -> Mapping[int, int]:
    tune = _cputune(document)
    found: Counter[int] = Counter()
    if tune is not None:
        for cache in tune.iterfind("cachetune/cache[@level='3']"):
            with contextlib.suppress(ValueError):  # libvirt has numbers there
                size = int(cache.get("size", "0"))
                unit = UNITS.get(cache.get("unit", "B"), 1)
                found[int(cache.get("id", "0"))] += size * unit
    return dict(found)


def _cputune(document: str) -> etree._Element | None:
    try:
        return xml.parse(document).find("cputune")
    except errors.DomainXMLError:
        return None
