# SPDX-License-Identifier: Apache-2.0
"""The parts of a domain that are Nova's, put into a template's.

A template says what an instance has of its host: CPUs, memory, devices. The
instance itself is Nova's: its disks, interfaces and consoles, its firmware.
What is described neither here nor in the template, the domain does not have.
"""

import copy
from collections.abc import Collection, Iterator

from ceilometer_perf import cpus
from ceilometer_perf.guest import domain, xml
from ceilometer_perf.guest.nova_metadata import NAMESPACE
from ceilometer_perf.slices.errors import TemplateError

#: Nova's alone, whatever the template has.
_OWN = ("name", "uuid", "sysinfo", "os")
#: Nova's where the template has none.
_DEFAULTS = (
    "iothreads", "cpu", "clock", "on_poweroff", "on_reboot", "on_crash", "pm",
)  # fmt: skip
#: Nova's children where the template has none of that name; but not these.
_MERGED = {"memoryBacking": ("hugepages",), "features": ()}
#: Of <cpu>: the template divides the CPUs.
_DIVIDED = ("topology", "numa")

#: Devices by the same rules.
_OWN_DEVICES = (
    "disk", "filesystem", "interface", "serial", "parallel", "console",
    "channel", "tpm",
)  # fmt: skip
_DEFAULT_DEVICES = (
    "emulator", "controller", "input", "graphics", "video", "audio", "sound",
    "watchdog", "memballoon", "rng", "iommu", "vsock",
)  # fmt: skip
#: Of the former, those of the slice.
_HANDED_THROUGH = (("interface", "hostdev"), ("disk", "nvme"))
#: Besides those of the slice.
_MORE_DEVICES = ("hostdev",)

_INSTANCE = f"{{{NAMESPACE}}}instance"


def put_into(document: str, novas: str) -> str:
    """The template's domain as Nova's instance.

    ``novas``: what Nova would boot.

    :raises TemplateError: the two don't go together.
    """
    tree = xml.parse(document)
    root, other = tree.getroot(), xml.parse(novas).getroot()
    _refuse(root, other)
    root.set("type", other.get("type", "kvm"))
    for tag in _OWN:
        _replace(root, other, tag)
    _replace(domain.container(root, "metadata"), other.find("metadata"),
             _INSTANCE)  # fmt: skip
    for tag in _DEFAULTS:
        if root.find(tag) is None:
            _replace(root, other, tag)
            _remove_below(root.find(tag), _DIVIDED)
    for tag, but in _MERGED.items():
        _merge(root, other, tag, but)
    _put_devices(domain.container(root, "devices"), other.find("devices"))
    _pin_iothreads(root)
    return xml.write(tree, document)


def _refuse(root: xml.Element, other: xml.Element) -> None:
    if other.find("launchSecurity") is not None:
        raise TemplateError(
            "Instances with encrypted memory can't have slices"
        )
    ours, theirs = _machine(root), _machine(other)
    if ours and theirs and ("q35" in ours) != ("q35" in theirs):
        raise TemplateError(
            f"The template's machine type is {ours}, the instance's {theirs}, "
            "whose devices don't fit: set [libvirt] hw_machine_type of "
            "nova.conf or the image's hw_machine_type, or change the template"
        )


def _machine(root: xml.Element) -> str | None:
    kind = root.find("os/type")
    return None if kind is None else kind.get("machine")


def _copies(
    parent: xml.Element | None, tags: Collection[str]
) -> Iterator[xml.Element]:
    for child in () if parent is None else parent:
        if child.tag in tags:
            yield copy.deepcopy(child)


def _replace(parent: xml.Element, other: xml.Element | None, tag: str) -> None:
    """A child as the other has it, if it does."""
    for new in _copies(other, (tag,)):
        order = domain.DOMAIN if tag in domain.DOMAIN else (tag,)
        old = parent.find(tag)
        old = xml.insert(parent, tag, order) if old is None else old
        new.tail = old.tail
        parent.replace(old, new)


def _remove_below(parent: xml.Element | None, tags: Collection[str]) -> None:
    for child in () if parent is None else list(parent):
        if child.tag in tags:
            xml.remove(child)


def _merge(
    root: xml.Element, other: xml.Element, tag: str, but: Collection[str]
) -> None:
    there = {child.tag for child in root.iterfind(f"{tag}/*")}
    for child in other.iterfind(f"{tag}/*"):
        if child.tag not in {*there, *but}:
            domain.container(root, tag).append(copy.deepcopy(child))


def _put_devices(devices: xml.Element, other: xml.Element | None) -> None:
    for tag in _OWN_DEVICES:
        _put(devices, tag, list(_copies(other, (tag,))))
    # Nova takes the first disk for the root disk.
    devices.extend(filter(_is_slices, devices.findall("disk")))
    there = set(map(_kind, devices))
    for new in _copies(other, _DEFAULT_DEVICES):
        if _kind(new) not in there:
            devices.append(new)
    devices.extend(_copies(other, _MORE_DEVICES))


def _kind(device: xml.Element) -> tuple[object, str | None]:
    """A guest has controllers for each bus."""
    controls = device.tag == "controller"
    return device.tag, device.get("type") if controls else None


def _put(devices: xml.Element, tag: str, news: list[xml.Element]) -> None:
    """Where the template's own are, which go."""
    olds = [old for old in devices.findall(tag) if not _is_slices(old)]
    at = devices.index(olds[0]) if olds else len(devices)
    for old in olds:
        xml.remove(old)
    for number, new in enumerate(news):
        devices.insert(at + number, new)


def _is_slices(device: xml.Element) -> bool:
    """An interface or a disk that is a PCI device of the host's."""
    return (device.tag, device.get("type")) in _HANDED_THROUGH


def _pin_iothreads(root: xml.Element) -> None:
    """Beside QEMU's other threads; else they would run on any CPU."""
    emulator = root.find("cputune/emulatorpin")
    if emulator is None:
        return
    pinned = domain.by_number(root, "cputune/iothreadpin", "iothread")
    for iothread in domain.iothread_ids(root):
        if iothread not in pinned:
            pin = xml.insert(
                domain.container(root, "cputune"), "iothreadpin",
                domain.CPUTUNE,
            )  # fmt: skip
            pin.set("iothread", str(iothread))
            pin.set("cpuset", cpus.text(domain.cpu_set(emulator, "cpuset")))
