# SPDX-License-Identifier: Apache-2.0
"""``<perf><event name=... enabled='yes'/></perf>``.

Nova writes it in ``LibvirtConfigGuest._format_perf_events``, once for each
time that nova.conf names the event. Events enabled by others stay.
"""

from collections.abc import Iterator

from ceilometer_perf.guest import domain, xml
from ceilometer_perf.guest.elements.base import Element
from ceilometer_perf.guest.requirements import Requirements

Events = tuple[str, ...]


def enabled(root: xml.Element) -> tuple[str, ...]:
    """The events that a domain has turned on."""
    found = root.iterfind("perf/event[@enabled='yes']")
    return tuple(event.get("name", "") for event in found)


def _wanted(_root: xml.Element, asked: Requirements) -> Events | None:
    return asked.perf_events or None


def _states(root: xml.Element, event: str) -> list[str | None]:
    return [
        found.get("enabled")
        for found in root.iterfind("perf/event")
        if found.get("name") == event
    ]


def _faults(root: xml.Element, events: Events) -> Iterator[str]:
    for event in events:
        states = _states(root, event)
        if not states:
            yield f"perf event {event} is missing"
        elif len(states) > 1:
            yield f"perf event {event} is listed twice: libvirt refuses that"
        elif states != ["yes"]:
            yield f"perf event {event} is turned off"


def _merge(root: xml.Element, events: Events) -> None:
    perf = domain.container(root, "perf")
    for event in events:
        first, *others = [
            found for found in perf if found.get("name") == event
        ] or [xml.insert(perf, "event", ("event",))]
        first.set("name", event)
        first.set("enabled", "yes")
        for double in others:
            xml.remove(double)


EVENT = Element(
    name="event",
    where="/domain/perf/event",
    why="[libvirt] enabled_perf_events asks for it; libvirt counts a "
    "guest's vCPUs only if the event is enabled when the guest starts",
    remedy="Hard-reboot the instance with that nova.conf, or use guest "
    "enable; it counts from the next boot",
    wanted=_wanted,
    faults=_faults,
    merge=_merge,
)
