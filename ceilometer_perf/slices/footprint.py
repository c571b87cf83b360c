# SPDX-License-Identifier: Apache-2.0
"""What a domain takes from its host, and which line says so."""

import dataclasses
import re
from collections.abc import Iterator, Mapping

from ceilometer_perf import cpus
from ceilometer_perf.guest import domain, xml
from ceilometer_perf.guest.errors import DomainXMLError, GuestError
from ceilometer_perf.slices.errors import TemplateError
from ceilometer_perf.slices.template import Place, Rendered

SMALL_PAGE = 4  # KiB
#: That of <hugepages/> without a size: the default of x86.
HUGE_PAGE = 2048  # KiB

#: Memory devices that are backed by the host's memory.
MODULES = ("dimm", "virtio-mem")

Nodes = frozenset[int]

MOST_DIGITS = 18


@dataclasses.dataclass(frozen=True)
class Pool:
    """Memory of one page size, on one node; None: on whichever."""

    node: int | None
    page: int  # KiB

    def __str__(self) -> str:
        where = "any node" if self.node is None else f"node {self.node}"
        return f"{where} in pages of {size(self.page)}"


@dataclasses.dataclass(frozen=True)
class Amount:
    """So much of a pool."""

    kib: int
    place: Place


@dataclasses.dataclass(frozen=True)
class Footprint:
    """What a slice takes. The keys are what no other slice may have."""

    #: By number; the first line that pins to it.
    cpus: Mapping[int, Place]
    #: By address: ``0000:3b:00.0``.
    pci: Mapping[str, Place]
    #: By UUID.
    mdevs: Mapping[str, Place]
    memory: Mapping[Pool, Amount]
    #: Threads that may run on any CPU of the host: ``vCPU 0-3``.
    floating: Mapping[str, Place]
    #: The whole domain.
    place: Place


def of(rendered: Rendered) -> Footprint:
    """The footprint of a template that is rendered.

    :raises TemplateError: it says something that libvirt would not take.
    """
    root = rendered.root()
    try:
        return Footprint(
            cpus=_cpus(root, rendered),
            pci=_pci(root, rendered),
            mdevs=_mdevs(root, rendered),
            memory=_memory(root, rendered),
            floating=_floating(root, rendered),
            place=rendered.place(root),
        )
    except GuestError as error:
        raise TemplateError(f"{rendered.file}: {error}") from error


PINS = ("cputune/vcpupin", "cputune/emulatorpin", "cputune/iothreadpin")


def _cpus(root: xml.Element, rendered: Rendered) -> dict[int, Place]:
    found: dict[int, Place] = {}
    elements = [e for path in (*PINS, "vcpu") for e in root.iterfind(path)]
    for element in elements:
        place = rendered.place(element)
        for cpu in sorted(domain.cpu_set(element, "cpuset")):
            found.setdefault(cpu, place)
    return found


def _floating(root: xml.Element, rendered: Rendered) -> dict[str, Place]:
    """What has no pin, where <vcpu cpuset=...> doesn't pin all."""
    vcpu = root.find("vcpu")
    if vcpu is not None and vcpu.get("cpuset"):
        return {}
    pinned = domain.by_number(root, "cputune/vcpupin", "vcpu")
    vcpus = set(range(domain.vcpu_count(root))) - set(pinned)
    pinned = domain.by_number(root, "cputune/iothreadpin", "iothread")
    iothreads = set(domain.iothread_ids(root)) - set(pinned)
    found = {
        f"vCPU {cpus.text(vcpus)}": vcpus,
        "the emulator": root.find("cputune/emulatorpin") is None,
        f"I/O thread {cpus.text(iothreads)}": iothreads,
    }
    place = rendered.place(root if vcpu is None else vcpu)
    return {what: place for what, floats in found.items() if floats}


ADDRESS = ("domain", "bus", "slot", "function")
KEY = "{:04x}:{:02x}:{:02x}.{:x}"


def _pci(root: xml.Element, rendered: Rendered) -> dict[str, Place]:
    """Whatever of the host's is handed through: <hostdev>, NICs, NVMe."""
    return {
        _address(address): rendered.place(address)
        for address in root.iterfind("devices/*/source/address")
        if address.get("slot") is not None
    }


def _address(element: xml.Element) -> str:
    parts = [_number(element, name) for name in ADDRESS]
    return KEY.format(*parts)


def _number(element: xml.Element, name: str) -> int:
    """A number as libvirt reads one: decimal, or hexadecimal after 0x."""
    text = element.get(name, "0")
    if not re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,9}", text):
        raise DomainXMLError(
            f"<{element.tag} {name}=...> must be a number such as 0x1a, not "
            f"{text[:40]!r}"
        )
    return int(text, 16 if text[:2].lower() == "0x" else 10)


def _mdevs(root: xml.Element, rendered: Rendered) -> dict[str, Place]:
    path = "devices/hostdev[@type='mdev']/source/address"
    return {
        element.get("uuid", "").lower(): rendered.place(element)
        for element in root.iterfind(path)
    }


def _memory(root: xml.Element, rendered: Rendered) -> dict[Pool, Amount]:
    """Each guest cell's memory, where it lies and in which pages."""
    found: dict[Pool, Amount] = {}
    for kib, nodes, page, element in _parts(root):
        # Which of several nodes has how much is the kernel's to choose.
        share, rest = divmod(kib, len(nodes) or 1)
        for index, node in enumerate(sorted(nodes) or [None]):
            pool = Pool(node, page)
            place = rendered.place(element)
            before = found.get(pool, Amount(0, place))
            more = share + (index < rest)
            found[pool] = Amount(before.kib + more, before.place)
    return found


def _parts(
    root: xml.Element,
) -> Iterator[tuple[int, Nodes, int, xml.Element]]:
    """KiB, host nodes (none: any), page size, and the line that says it."""
    cells = root.findall("cpu/numa/cell")
    for index, cell in enumerate(cells):
        number = _whole(cell, cell.get("id", str(index)))
        nodes, bound = _nodes(root, number)
        kib = kibibytes(cell, cell.get("memory", "0"))
        yield kib, nodes, _page(root, number), _first(bound, cell)
    memory = root.find("memory")
    if not cells and memory is not None:
        nodes, bound = _nodes(root, 0)
        kib = kibibytes(memory, memory.text or "0")
        yield kib, nodes, _page(root, 0), _first(bound, memory)
    for module in root.iterfind("devices/memory"):
        if module.get("model") in MODULES:
            yield _module(root, module)


def _first(*elements: xml.Element | None) -> xml.Element:
    return next(e for e in elements if e is not None)


def _nodes(root: xml.Element, cell: int) -> tuple[Nodes, xml.Element | None]:
    """The host nodes that a guest cell is bound to, and what binds it."""
    bound = domain.by_number(root, "numatune/memnode", "cellid").get(cell)
    if bound is None:
        bound = root.find("numatune/memory[@nodeset]")
    if bound is None:
        return frozenset(), None
    return domain.cpu_set(bound, "nodeset"), bound


def _page(root: xml.Element, cell: int) -> int:
    """In KiB: the size that is for this cell, or for all, or small."""
    huge = root.find("memoryBacking/hugepages")
    if huge is None:
        return SMALL_PAGE
    for_all = HUGE_PAGE if len(huge) == 0 else SMALL_PAGE
    for page in huge.iterfind("page"):
        value = kibibytes(page, page.get("size", "0"))
        if page.get("nodeset") is None:
            for_all = value
        elif cell in domain.cpu_set(page, "nodeset"):
            return value
    return for_all


def _module(
    root: xml.Element, module: xml.Element
) -> tuple[int, Nodes, int, xml.Element]:
    """A memory module, which adds to the cells' memory."""
    amount = _first(module.find("target/size"), module)
    cell = _whole(module, module.findtext("target/node") or "0")
    mask = module.findtext("source/nodemask")
    pages = module.find("source/pagesize")
    return (
        kibibytes(amount, amount.text or "0"),
        domain.listed(mask, "<nodemask>") if mask else _nodes(root, cell)[0],
        _page(root, cell)
        if pages is None
        else kibibytes(pages, pages.text or "0"),
        module,
    )


def _whole(element: xml.Element, text: str) -> int:
    if not (text.strip().isdecimal() and len(text) < MOST_DIGITS):
        raise DomainXMLError(
            f"<{element.tag}>: {text[:40]!r} must be an integer"
        )
    return int(text)


def kibibytes(element: xml.Element, text: str) -> int:
    """A size with the unit that stands in an attribute; KiB without one."""
    unit = domain.UNITS.get(element.get("unit", "KiB").lower())
    if unit is None:
        raise DomainXMLError(
            f"<{element.tag} unit={element.get('unit', '')[:40]!r}>: the "
            "unit must be one of libvirt's, such as KiB, MiB or GiB"
        )
    return -(-_whole(element, text) * unit // 1024)


def size(kib: int) -> str:
    """For people: ``64 GiB``, ``2 MiB``, ``4 KiB``."""
    for unit, worth in (("GiB", 1 << 20), ("MiB", 1 << 10)):
        if kib >= worth and kib % worth == 0:
            return f"{kib // worth} {unit}"
    return f"{kib} KiB"
