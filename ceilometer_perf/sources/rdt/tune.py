# SPDX-License-Identifier: Apache-2.0
"""What an instance's ``<cputune>`` says of caches and of bandwidth.

The elements are those of libvirt's domain XML: ``cachetune`` reserves a part
of a cache (CAT), and, like ``memorytune``, may hold monitors.
"""

import functools
from collections import Counter
from collections.abc import Mapping

from lxml import etree

from ceilometer_perf.guest import errors, xml
from ceilometer_perf.host.probe.virt import UNITS

_MOST = 4096  # instances on a host whose XML need not be parsed again


@functools.lru_cache(_MOST)
def has_monitors(document: str) -> bool:
    """Whether there is a monitor of libvirt's, of either kind."""
    if "<monitor" not in document:  # parsing costs more than all else here
        return False
    tune = _cputune(document)
    return tune is not None and (
        tune.find("cachetune/monitor") is not None
        or tune.find("memorytune/monitor") is not None
    )


@functools.lru_cache(_MOST)
def reserved(document: str) -> Mapping[int, int]:
    """Bytes of each L3 cache that are kept for the instance, by its id."""
    if "<cachetune" not in document:
        return {}
    tune = _cputune(document)
    found: Counter[int] = Counter()
    if tune is not None:
        for cache in tune.iterfind("cachetune/cache[@level='3']"):
            size = int(cache.get("size", "0"))
            unit = UNITS.get(cache.get("unit", "B"), 1)
            found[int(cache.get("id", "0"))] += size * unit
    return dict(found)


def _cputune(document: str) -> etree._Element | None:
    try:
        return xml.parse(document).find("cputune")
    except errors.DomainXMLError:
        return None
