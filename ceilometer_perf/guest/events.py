# SPDX-License-Identifier: Apache-2.0
"""Which perf events a guest gets: ``[libvirt] enabled_perf_events``.

The rule is that of ``LibvirtDriver._get_supported_perf_events``: what libvirt
has no constant for is ignored, and so are the cache-monitoring events that
Linux dropped. Nova passes capitals and duplicates on as they are, and then
libvirt refuses to start any guest; here they are lower-cased and dropped.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from ceilometer_perf.guest.host_facts import HostFacts, Version

#: Every event of libvirt's ``<perf>``, with the version that brought it.
SINCE: Mapping[str, Version] = MappingProxyType(
    {
        "cmt": (1, 3, 3),
        "mbmt": (1, 3, 5),
        "mbml": (1, 3, 5),
        "cache_misses": (2, 3, 0),
        "cache_references": (2, 3, 0),
        "instructions": (2, 3, 0),
        "cpu_cycles": (2, 3, 0),
        "branch_instructions": (3, 0, 0),
        "branch_misses": (3, 0, 0),
        "bus_cycles": (3, 0, 0),
        "stalled_cycles_frontend": (3, 0, 0),
        "stalled_cycles_backend": (3, 0, 0),
        "ref_cpu_cycles": (3, 0, 0),
        "cpu_clock": (3, 2, 0),
        "task_clock": (3, 2, 0),
        "page_faults": (3, 2, 0),
        "context_switches": (3, 2, 0),
        "cpu_migrations": (3, 2, 0),
        "page_faults_min": (3, 2, 0),
        "page_faults_maj": (3, 2, 0),
        "alignment_faults": (3, 2, 0),
        "emulation_faults": (3, 2, 0),
    }
)

INTEL_CQM = frozenset({"cmt", "mbmt", "mbml"})


def normalized(names: Iterable[str]) -> Iterator[str]:
    """Names as libvirt spells them, each once, in the order they came."""
    return filter(None, dict.fromkeys(n.strip().lower() for n in names))


def objection(event: str, host: HostFacts) -> str | None:
    """Why this host can't count ``event``, or None if nothing is known."""
    if "#" in event:
        return "a comment belongs on a line of its own"
    since = SINCE.get(event)
    if since is None:
        return "libvirt knows no event of that name"
    if host.libvirt is not None and host.libvirt < since:
        return f"it needs libvirt {'.'.join(map(str, since))}"
    if event in INTEL_CQM and not host.intel_cqm:
        return "Linux dropped its PMU intel_cqm in 4.14; use resctrl"
    return None


def choose(
    names: Iterable[str], host: HostFacts
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The events to enable, and a line on each that is left out."""
    objections = {name: objection(name, host) for name in normalized(names)}
    events = tuple(name for name, why in objections.items() if why is None)
    notes = tuple(
        f"perf event {name} is ignored: {why}"
        for name, why in objections.items()
        if why is not None
    )
    return events, notes
