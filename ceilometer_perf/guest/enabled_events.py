# SPDX-License-Identifier: Apache-2.0
"""Which perf events a guest gets: ``[libvirt] enabled_perf_events``.

The rule is that of ``LibvirtDriver._get_supported_perf_events``: what libvirt
has no constant for is ignored, and so are the cache-monitoring events that
Linux dropped. Nova passes capitals and duplicates on as they are, and then
libvirt refuses to start any guest; here they are lower-cased and dropped.
"""

from collections.abc import Iterable, Iterator

from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest.host_facts import HostFacts


def normalized(names: Iterable[str]) -> Iterator[str]:
    """Names as libvirt spells them, each once, in the order they came."""
    return filter(None, dict.fromkeys(n.strip().lower() for n in names))


def objection(name: str, host: HostFacts) -> str | None:
    """Why this host can't count an event, or None if nothing is known."""
    if "#" in name:
        return "a comment belongs on a line of its own"
    event = EVENTS.get(name)
    if event is None:
        return "libvirt knows no event of that name"
    if host.libvirt is not None and host.libvirt < event.since:
        return f"it needs libvirt {'.'.join(map(str, event.since))}"
    if event.kind == "intel_cqm" and not host.intel_cqm:
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
