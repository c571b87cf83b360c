# SPDX-License-Identifier: Apache-2.0
"""``<cputune><vcpusched vcpus=... scheduler='fifo' priority=.../></cputune>``.

Nova writes it in ``designer.set_vcpu_realtime_scheduler``, for the realtime
vCPUs and for no other. libvirt splits it up into one element a vCPU, and
refuses a vCPU that stands in two.
"""

from collections.abc import Iterator

from ceilometer_perf import cpus
from ceilometer_perf.guest import domain, errors, xml
from ceilometer_perf.guest.elements.base import REMEDY, Element
from ceilometer_perf.guest.realtime import Realtime
from ceilometer_perf.guest.requirements import Requirements

REALTIME_SCHEDULERS = ("fifo", "rr")


def is_realtime(root: xml.Element) -> bool:
    """Whether a domain has a vCPU under a realtime scheduler."""
    return any(
        sched.get("scheduler") in REALTIME_SCHEDULERS
        for sched in root.iterfind("cputune/vcpusched")
    )


def _scheduled(root: xml.Element) -> Iterator[tuple[xml.Element, set[int]]]:
    """Each vcpusched with its vCPUs."""
    elements = root.findall("cputune/vcpusched")
    if len(elements) > domain.vcpu_count(root):
        raise errors.DomainXMLError("There are more <vcpusched> than vCPUs")
    for sched in elements:
        yield sched, set(domain.cpu_set(sched, "vcpus"))


def _is_right(sched: xml.Element, wanted: Realtime) -> bool:
    """Whether this is the scheduler that realtime vCPUs must have."""
    return sched.get("scheduler") == "fifo" and sched.get("priority") == str(
        wanted.priority
    )


def _kept(sched: xml.Element, named: set[int], wanted: Realtime) -> set[int]:
    """The vCPUs that may stay under the scheduler that they are under."""
    if _is_right(sched, wanted):
        return named - wanted.housekeeping
    if sched.get("scheduler") in REALTIME_SCHEDULERS:
        return named - wanted.housekeeping - wanted.vcpus
    return named - wanted.vcpus


def _wanted_sched(_root: xml.Element, asked: Requirements) -> Realtime | None:
    return asked.realtime


def _faults_sched(root: xml.Element, wanted: Realtime) -> Iterator[str]:
    once: set[int] = set()
    twice: set[int] = set()
    right: set[int] = set()
    hurried: set[int] = set()
    for sched, named in _scheduled(root):
        twice |= once & named
        once |= named
        if _is_right(sched, wanted):
            right |= named
        if sched.get("scheduler") in REALTIME_SCHEDULERS:
            hurried |= named
    missing = wanted.vcpus - (right - twice)
    if missing:
        yield (
            f"realtime vCPU {cpus.text(missing)} is not scheduled fifo with "
            f"priority {wanted.priority}, and nothing else"
        )
    hurried &= wanted.housekeeping
    if hurried:
        yield f"vCPU {cpus.text(hurried)} is scheduled as if it were realtime"


def _merge_sched(root: xml.Element, wanted: Realtime) -> None:
    right: set[int] = set()
    for sched, named in list(_scheduled(root)):
        kept = _kept(sched, named, wanted) - right
        if _is_right(sched, wanted):
            right |= kept
        if named and not kept:
            xml.remove(sched)
        elif kept != named:
            sched.set("vcpus", cpus.text(kept))
    missing = wanted.vcpus - right
    if missing:
        cputune = domain.container(root, "cputune")
        sched = xml.insert(cputune, "vcpusched", domain.CPUTUNE)
        sched.set("vcpus", cpus.text(missing))
        sched.set("scheduler", "fifo")
        sched.set("priority", str(wanted.priority))


VCPUSCHED = Element(
    name="vcpusched",
    where="/domain/cputune/vcpusched",
    why="hw:cpu_realtime asks for vCPUs that nothing else delays",
    remedy=REMEDY,
    wanted=_wanted_sched,
    faults=_faults_sched,
    merge=_merge_sched,
)
