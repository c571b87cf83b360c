# SPDX-License-Identifier: Apache-2.0
"""``<cputune>``: monitors of ``<cachetune>`` and of ``<memorytune>``.

Nova writes neither. What an operator has put there stays: libvirt refuses
vCPUs of two of them that overlap without being the same, and both with the
same vCPUs are one group of resctrl, whose monitors follow one rule. Where
cache or bandwidth is allocated, the group has a monitor for all of its
vCPUs, beside others; elsewhere no vCPU may be in two of them.

libvirt after 12.5 has monitors of the whole process: without vCPUs, and not
beside any that has.
"""

from collections.abc import Iterator, Mapping

from ceilometer_perf import cpus
from ceilometer_perf.guest import domain, errors, xml
from ceilometer_perf.guest.elements.base import Element
from ceilometer_perf.guest.requirements import Requirements

TUNES = ("cachetune", "memorytune")
#: That may not be mixed.
ALL_TUNES = (*TUNES, "energytune")
ALLOCATIONS = ("cache", "node")
ORDER = (*ALLOCATIONS, "monitor")

VCPUs = frozenset[int]

WHOLE: VCPUs = frozenset()
"""Nothing that names vCPUs: the whole process."""


def _wanted(root: xml.Element, asked: Requirements) -> VCPUs | None:
    """The vCPUs to monitor: all of them."""
    if not asked.monitors:
        return None
    if root.get("type") != "kvm":
        raise errors.DomainXMLError(
            f"The domain's type is {root.get('type')!r}: libvirt monitors "
            "the cache and the memory bandwidth of domains of type 'kvm' only"
        )
    if _is_whole(root, asked):
        return WHOLE
    return frozenset(range(domain.vcpu_count(root)))


def _is_whole(root: xml.Element, asked: Requirements) -> bool:
    """Whether monitors name no vCPUs; those that are there decide."""
    standing = [
        tune for tag in ALL_TUNES for tune in root.iterfind(f"cputune/{tag}")
    ]
    if standing:
        return any(tune.get("vcpus") is None for tune in standing)
    return asked.whole_monitors


def _groups(root: xml.Element, everyone: VCPUs) -> set[VCPUs]:
    """The vCPUs by the group that they are in, or will be."""
    if everyone == WHOLE:
        return {WHOLE}
    standing = {
        domain.cpu_set(tune, "vcpus") & everyone
        for tag in TUNES
        for tune in root.iterfind(f"cputune/{tag}")
    } - {frozenset()}
    seen: VCPUs = frozenset()
    for group in standing:
        if group & seen:
            raise errors.DomainXMLError(
                f"vCPU {cpus.text(group & seen)} is in two <cachetune> or "
                "<memorytune> of different vCPUs: libvirt refuses that"
            )
        seen |= group
    return standing | ({everyone - seen} - {frozenset()})


def _tunes(root: xml.Element, tag: str, group: VCPUs) -> list[xml.Element]:
    """The one element that a group has under this name, or none."""
    return [
        tune
        for tune in root.iterfind(f"cputune/{tag}")
        if group == WHOLE or domain.cpu_set(tune, "vcpus") & group
    ]


def _monitored(tunes: list[xml.Element], group: VCPUs) -> set[VCPUs]:
    return {
        domain.cpu_set(monitor, "vcpus") & group
        for tune in tunes
        for monitor in tune.iterfind("monitor")
    }


def _missing(root: xml.Element, tag: str, group: VCPUs) -> set[VCPUs]:
    """The vCPUs of each monitor that a group lacks."""
    if group == WHOLE:
        there = root.find(f"cputune/{tag}/monitor") is not None
        return set() if there else {WHOLE}
    mine = _monitored(_tunes(root, tag, group), group)
    if frozenset().union(*mine) == group:
        return set()
    both = [t for each in TUNES for t in _tunes(root, each, group)]
    standing = _monitored(both, group)
    allocated = any(t.find(a) is not None for t in both for a in ALLOCATIONS)
    if allocated or not standing or group in standing:
        return {group}
    rest = group - frozenset().union(*standing)
    return ({*standing, rest} - mine) - {frozenset()}


def _element(
    tag: str, what: str, attributes: dict[str, str]
) -> Element[VCPUs]:
    """Monitors of one of the two kinds."""

    def faults(root: xml.Element, everyone: VCPUs) -> Iterator[str]:
        groups = _groups(root, everyone)
        lost = (vcpus for g in groups for vcpus in _missing(root, tag, g))
        for vcpus in sorted(lost, key=sorted):
            whose = f"vCPU {cpus.text(vcpus)}" if vcpus else "the guest"
            yield f"the {what} of {whose} is not monitored"

    def merge(root: xml.Element, everyone: VCPUs) -> None:
        for group in sorted(_groups(root, everyone), key=sorted):
            missing = _missing(root, tag, group)
            if not missing:
                continue
            tune, *_ = _tunes(root, tag, group) or [_new(root, tag, group)]
            for vcpus in sorted(missing, key=sorted):
                _add_monitor(tune, attributes, vcpus)

    return Element(
        name=tag,
        where=f"/domain/cputune/{tag}/monitor",
        why=f"guest --monitors asks for it: libvirt then reports the {what} "
        "of the guest's vCPUs",
        remedy="Define the output of guest apply --monitors; it takes "
        "effect at the next start by libvirt, until Nova rewrites "
        "the XML, as at a hard reboot",
        wanted=_wanted,
        faults=faults,
        merge=merge,
    )


def _add_monitor(
    tune: xml.Element, attributes: Mapping[str, str], vcpus: VCPUs
) -> None:
    monitor = xml.insert(tune, "monitor", ORDER)
    for name, value in attributes.items():
        monitor.set(name, value)
    if vcpus:
        monitor.set("vcpus", cpus.text(vcpus))


def _new(root: xml.Element, tag: str, group: VCPUs) -> xml.Element:
    cputune = domain.container(root, "cputune")
    tune = xml.insert(cputune, tag, domain.CPUTUNE)
    if group:
        tune.set("vcpus", cpus.text(group))
    return tune


CACHETUNE = _element("cachetune", "L3 occupancy", {"level": "3"})
MEMORYTUNE = _element("memorytune", "memory bandwidth", {})
