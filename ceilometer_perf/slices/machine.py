# SPDX-License-Identifier: Apache-2.0
"""What a host has: its capabilities and node devices, by libvirt."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping

from ceilometer_perf.guest import xml
from ceilometer_perf.guest.errors import GuestError
from ceilometer_perf.slices.errors import SliceError
from ceilometer_perf.slices.footprint import (
    ADDRESS,
    KEY,
    SMALL_PAGE,
    Footprint,
    Pool,
)


class HardwareError(SliceError):
    """The description of the host can't be used."""


@dataclasses.dataclass(frozen=True)
class Device:
    """A PCI device, or a mediated one."""

    #: ``0000:3b:00.0``, or a UUID.
    key: str
    #: Behind which NUMA node; None: libvirt doesn't say.
    node: int | None = None
    #: ``10de:2330``; "" for a mediated one.
    model: str = ""
    #: For people.
    label: str = ""
    #: The keys of a physical function's virtual ones.
    functions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Machine:
    """The hardware of one host."""

    #: Each CPU's NUMA node.
    cpus: Mapping[int, int]
    #: KiB of each pool, those with nothing in them included.
    memory: Mapping[Pool, int]
    #: The threads of each core, by its lowest.
    cores: tuple[tuple[int, ...], ...] = ()
    arch: str = "x86_64"
    #: Of each NUMA node, those whose CPUs are nearest to it: itself, but for
    #: memory alone, as of HBM or CXL.
    near: Mapping[int, frozenset[int]] = dataclasses.field(
        default_factory=dict
    )
    #: None: not known.
    pci: Mapping[str, Device] | None = None
    mdevs: Mapping[str, Device] | None = None

    @property
    def nodes(self) -> tuple[int, ...]:
        """The NUMA nodes."""
        memory = {pool.node for pool in self.memory if pool.node is not None}
        return tuple(sorted(memory | set(self.cpus.values())))

    @property
    def whole_nodes(self) -> tuple[int, ...]:
        """Those with both CPUs and memory.

        Others are of memory alone, as of CXL, or lack theirs.
        """
        with_memory = {pool.node for pool, kib in self.memory.items() if kib}
        with_both = with_memory & set(self.cpus.values())
        return tuple(node for node in self.nodes if node in with_both)

    def is_far(self, node: int, homes: Collection[int]) -> bool:
        """Whether what is behind a node is nearer to CPUs of other nodes."""
        near = self.near.get(node, {node})
        return bool(homes) and near.isdisjoint(homes)


def whole_devices(footprint: Footprint, machine: Machine) -> Footprint:
    """With the virtual functions of the physical ones that it takes.

    A physical function in one guest leaves none of its virtual ones to others.
    """
    there = machine.pci or {}
    more = {
        virtual: place
        for key, place in footprint.pci.items()
        if key in there
        for virtual in there[key].functions
    }
    return dataclasses.replace(footprint, pci={**more, **footprint.pci})


def read(
    capabilities: str | bytes,
    devices: Iterable[tuple[str, str | bytes]] | None = None,
    source: str = "capabilities",
) -> Machine:
    """A host from its XML; ``devices`` are documents with their sources.

    :raises HardwareError: names the source.
    """
    root = _root(capabilities, source)
    cells = root.findall("host/topology/cells/cell")
    if not cells:
        raise HardwareError(
            f"{source}: no /capabilities/host/topology/cells/cell in it; "
            "use output of virsh capabilities on the compute host"
        )
    try:
        machine = Machine(
            cpus=_cpus(cells),
            memory=_memory(cells),
            cores=_cores(cells),
            arch=root.findtext("host/cpu/arch") or Machine.arch,
            near=_near(cells),
        )
    except ValueError as error:
        raise HardwareError(
            f"{source}: not written by libvirt: {error}"
        ) from error
    return machine if devices is None else _with(machine, devices)


def _root(document: str | bytes, source: str) -> xml.Element:
    try:
        root: xml.Element = xml.parse_any(document).getroot()
    except GuestError as error:
        raise HardwareError(f"{source}: {error}") from error
    return root


def _cpus(cells: Iterable[xml.Element]) -> dict[int, int]:
    return {
        int(cpu.get("id", "")): int(cell.get("id", ""))
        for cell in cells
        for cpu in cell.iterfind("cpus/cpu")
    }


def _near(cells: Collection[xml.Element]) -> dict[int, frozenset[int]]:
    """By the kernel's distances; all are near where there are none."""
    homes = set(_cpus(cells).values())
    found: dict[int, frozenset[int]] = {}
    for cell in cells:
        node = int(cell.get("id", ""))
        distances = {
            int(other.get("id", "")): int(other.get("value", ""))
            for other in cell.iterfind("distances/sibling")
        }
        least = min((distances.get(home, 0) for home in homes), default=0)
        found[node] = (
            frozenset({node})
            if node in homes
            else frozenset(n for n in homes if distances.get(n, 0) == least)
        )
    return found


def _cores(cells: Iterable[xml.Element]) -> tuple[tuple[int, ...], ...]:
    """CPUs of one socket, die and core; those that are off have none."""
    cores: dict[tuple[str, ...], list[int]] = {}
    for cell in cells:
        for cpu in cell.iterfind("cpus/cpu"):
            where = ("socket_id", "die_id", "core_id")
            core = tuple(cpu.get(name, "") for name in where)
            key = (cell.get("id", ""), *core)
            if not cpu.get("core_id"):
                key = (*key, cpu.get("id", ""))
            cores.setdefault(key, []).append(int(cpu.get("id", "")))
    return tuple(sorted(tuple(sorted(core)) for core in cores.values()))


def _memory(cells: Iterable[xml.Element]) -> dict[Pool, int]:
    found: dict[Pool, int] = {}
    for cell in cells:
        node = int(cell.get("id", ""))
        for pages in cell.iterfind("pages"):
            page = int(pages.get("size", ""))
            found[Pool(node, page)] = page * int(pages.text or "")
        small = Pool(node, SMALL_PAGE)
        if small not in found:
            found[small] = int(cell.findtext("memory") or "0")
    return found


def _with(
    machine: Machine, documents: Iterable[tuple[str, str | bytes]]
) -> Machine:
    pci: dict[str, Device] = {}
    mdevs: dict[str, Device] = {}
    parents: dict[str, str] = {}  # of mediated ones, by libvirt's names
    nodes: dict[str, int | None] = {}
    for source, document in documents:
        for element in _elements(document, source):
            try:
                name = element.findtext("name") or ""
                device = _device(element)
                nodes[name] = device.node if device else None
            except ValueError as error:
                raise HardwareError(
                    f"{source}: not written by libvirt: {error}"
                ) from error
            if device is None:
                continue
            kind = pci if device.model else mdevs
            kind[device.key] = device
            if kind is mdevs:
                parents[device.key] = element.findtext("parent") or ""
    mdevs = {
        key: dataclasses.replace(device, node=nodes.get(parents[key]))
        for key, device in mdevs.items()
    }
    return dataclasses.replace(machine, pci=pci, mdevs=mdevs)


#: Documents that stand one after the other, as virsh prints them.
_PROLOG = re.compile(rb"<\?xml[^>]*\?>")


def _elements(document: str | bytes, source: str) -> list[xml.Element]:
    data = document if isinstance(document, bytes) else document.encode()
    together = b"<devices>" + _PROLOG.sub(b"", data) + b"</devices>"
    found = list(_root(together, source).iter("device"))
    if not found:
        raise HardwareError(
            f"{source}: no <device> in it; use the output of virsh "
            "nodedev-dumpxml on the compute host"
        )
    return found


def _device(element: xml.Element) -> Device | None:
    """A device that can be handed through; None for any other."""
    capability = element.find("capability[@type='pci']")
    if capability is not None:
        return _pci(capability)
    uuid = element.findtext("capability[@type='mdev']/uuid")
    if uuid is None:
        # Older libvirts have it in the name alone.
        name = element.findtext("name") or ""
        if element.find("capability[@type='mdev']") is None:
            return None
        uuid = name.removeprefix("mdev_")[:36].replace("_", "-")
    return Device(uuid.lower(), label=f"mediated device {uuid}")


def _pci(capability: xml.Element) -> Device:
    parts = [int(capability.findtext(name) or "", 0) for name in ADDRESS]
    ids = [
        int(_get(capability.find(name), "id") or "0", 0)
        for name in ("vendor", "product")
    ]
    node = _get(capability.find("numa"), "node")
    return Device(
        key=KEY.format(*parts),
        node=None if node is None else int(node),
        model="{:04x}:{:04x}".format(*ids),
        label=capability.findtext("product") or "",
        functions=tuple(
            KEY.format(*(int(a.get(name, ""), 0) for name in ADDRESS))
            for a in capability.iterfind(
                "capability[@type='virt_functions']/address"
            )
        ),
    )


def _get(element: xml.Element | None, name: str) -> str | None:
    return None if element is None else element.get(name)
