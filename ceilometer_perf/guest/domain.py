# SPDX-License-Identifier: Apache-2.0
"""What a domain says of its CPUs: the input that only Nova can give.

The elements are those of libvirt's "CPU Allocation", "IOThreads Allocation"
and "CPU Tuning". Where a vCPU is pinned is decided when Nova places a guest;
nothing here invents a pin.
"""

import itertools

from ceilometer_perf import cpus
from ceilometer_perf.guest import errors
from ceilometer_perf.guest.xml import Element, insert

#: The order in which libvirt writes the children that matter here.
DOMAIN = (
    "name", "uuid", "genid", "title", "description", "metadata", "maxMemory",
    "memory", "currentMemory", "blkiotune", "memtune", "memoryBacking",
    "vcpu", "vcpus", "iothreads", "iothreadids", "defaultiothread", "cputune",
    "numatune", "resource", "sysinfo", "bootloader", "bootloader_args", "os",
    "idmap", "features", "cpu", "clock", "on_poweroff", "on_reboot",
    "on_crash", "on_lockfailure", "pm", "perf", "devices",
)  # fmt: skip

CPUTUNE = (
    "shares", "period", "quota", "global_period", "global_quota",
    "emulator_period", "emulator_quota", "iothread_period", "iothread_quota",
    "vcpupin", "emulatorpin", "iothreadpin", "emulatorsched", "vcpusched",
    "iothreadsched", "cachetune", "memorytune", "energytune",
)  # fmt: skip

#: Far more than any guest has; each of them costs time here.
MOST_IOTHREADS = 1024

#: What libvirt's units stand for, in bytes.
UNITS = {
    "b": 1, "bytes": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip

DIGITS = 10  # of a number in an attribute: libvirt stores 32 bits


def number(root: Element, tag: str, most: int) -> int | None:
    """A child that holds a positive number; None without it."""
    text = root.findtext(tag)
    if text is None:
        return None
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise errors.DomainXMLError(
            f"<{tag}> must hold a number up to {most}, not {text[:40]!r}"
        )
    return value


def vcpu_count(root: Element) -> int:
    """How many vCPUs the guest may ever have; libvirt's default is one."""
    return number(root, "vcpu", cpus.LIMIT) or 1


def online_vcpus(root: Element) -> frozenset[int]:
    """The vCPUs that the guest has now; others may be plugged in later."""
    # libvirt lists them where some of them are off.
    listed = by_number(root, "vcpus/vcpu", "id")
    return frozenset(
        vcpu
        for vcpu in range(vcpu_count(root))
        if vcpu not in listed or listed[vcpu].get("enabled") == "yes"
    )


def cpu_set(element: Element, attribute: str) -> frozenset[int]:
    """An attribute that names CPUs; none where it is absent."""
    return listed(
        element.get(attribute, ""), f"<{element.tag} {attribute}=...>"
    )


def listed(text: str, where: str) -> frozenset[int]:
    """CPUs, or NUMA nodes, as libvirt lists them.

    :raises DomainXMLError: what stands there is something else.
    """
    try:
        return cpus.parse_libvirt(text)
    except ValueError as error:
        raise errors.DomainXMLError(f"{where}: {error}") from error


def by_number(root: Element, path: str, key: str) -> dict[int, Element]:
    """Elements by the number in one of their attributes."""
    found = {}
    for element in root.iterfind(path):
        value = element.get(key, "")
        if not value.strip().isdecimal() or len(value) > DIGITS:
            raise errors.DomainXMLError(
                f"<{element.tag} {key}=...> must be a number, not "
                f"{value[:40]!r}"
            )
        found[int(value)] = element
    return found


def pins(root: Element) -> dict[int, frozenset[int]]:
    """For each vCPU the host CPUs that it may run on; each must have some."""
    elements = by_number(root, "cputune/vcpupin", "vcpu")
    vcpus = range(vcpu_count(root))
    found = {v: cpu_set(elements[v], "cpuset") for v in vcpus if v in elements}
    lost = {v for v in vcpus if not found.get(v)}
    if lost:
        raise errors.NotInXMLError(
            f"vCPU {cpus.text(lost)} of a realtime guest has no <vcpupin>",
            "Nova chooses the pins when it places the guest: hard-reboot or "
            "migrate the instance, and start from the XML that it writes",
        )
    return found


def iothread_ids(root: Element) -> list[int]:
    """The I/O threads: those with an id, then the lowest free ids."""
    ids = by_number(root, "iothreadids/iothread", "id").keys()
    if len(ids) > MOST_IOTHREADS:
        raise errors.DomainXMLError(f"More than {MOST_IOTHREADS} I/O threads")
    count = number(root, "iothreads", MOST_IOTHREADS) or len(ids)
    free = (i for i in itertools.count(1) if i not in ids)
    return sorted([*ids, *itertools.islice(free, max(0, count - len(ids)))])


def container(root: Element, tag: str) -> Element:
    """A child of the domain, created if it is missing."""
    found = root.find(tag)
    return insert(root, tag, DOMAIN) if found is None else found
