# SPDX-License-Identifier: Apache-2.0
"""How a host is divided: which cores, memory and devices each slice has.

The smallest slices are cut first, each out of one NUMA node or of whole ones.
Larger ones are what their parts are together, so that nothing is ever taken
twice or outside a parent.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ceilometer_perf.slices.errors import SliceError
from ceilometer_perf.slices.footprint import SMALL_PAGE, Pool, size
from ceilometer_perf.slices.machine import Device, Machine

Core = tuple[int, ...]


class SplitError(SliceError):
    """The host can't be divided like that."""


@dataclasses.dataclass(frozen=True)
class Share:
    """What a slice has of one NUMA node."""

    node: int
    cores: tuple[Core, ...]
    pages: int
    devices: tuple[Device, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """A slice to be: the ``number``-th of so many equal ones, from 1."""

    of: int
    number: int
    shares: tuple[Share, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be divided, and into what."""

    #: In how many equal parts, growing: 1, 2, 8.
    parts: tuple[int, ...]
    #: ``10de:2330``; every part gets as many of each.
    accelerators: tuple[str, ...] = ()
    #: Cores of each node kept for the host.
    reserved_cores: int = 1
    #: KiB; None: the largest of which every node has some.
    page: int | None = None
    #: KiB of each node kept for the host if pages are small.
    reserved_memory: int = 8 << 20


def parse(text: str) -> tuple[int, ...]:
    """``1/1,1/2,1/8`` as 1, 2, 8.

    :raises SplitError: it is not such a list, or a part does not fit another.
    """
    found = set()
    for word in text.split(","):
        one, slash, parts = word.strip().partition("/")
        ok = one.strip() == "1" and slash and parts.strip().isdecimal()
        if not ok or not 1 <= int(parts[:6]) <= MOST_PARTS:
            raise SplitError(
                f"--split {text[:60]}: {word.strip()[:20]!r} is not a part "
                f"of a host; write 1/1,1/2,1/8, at most {MOST_PARTS} parts"
            )
        found.add(int(parts))
    for large, small in itertools.pairwise(sorted(found)):
        if small % large:
            raise SplitError(
                f"--split {text[:60]}: 1/{large} can't be made of "
                f"1/{small}; each number must be a multiple of the one "
                "before"
            )
    return tuple(sorted(found))


MOST_PARTS = 4096


def divide(machine: Machine, plan: Plan) -> Iterator[Part]:
    """Every slice of a host, the largest first.

    :raises SplitError: with what is missing.
    """
    smallest = plan.parts[-1]
    leaves = _leaves(machine, plan, smallest)
    for parts in plan.parts:
        width = smallest // parts
        for number in range(parts):
            own = leaves[number * width : (number + 1) * width]
            yield Part(parts, number + 1, _joined(own))


def page_size(machine: Machine, plan: Plan) -> int:
    """KiB: the one that is asked for, or the largest in every node."""
    if plan.page is not None:
        return plan.page
    sizes = {pool.page for pool in machine.memory}
    everywhere = (
        page
        for page in sizes
        if all(machine.memory.get(Pool(n, page)) for n in machine.whole_nodes)
    )
    return max(everywhere, default=SMALL_PAGE)


def _leaves(
    machine: Machine, plan: Plan, count: int
) -> list[tuple[Share, ...]]:
    """The smallest slices, from the first node to the last."""
    nodes = machine.whole_nodes
    if not nodes:
        raise SplitError(
            "--split: no NUMA node of the host has both CPUs and memory"
        )
    if count % len(nodes) and len(nodes) % count:
        raise SplitError(
            f"--split: the {len(nodes)} NUMA nodes of the host don't divide "
            f"into {count} slices, so one would span two nodes; the last "
            f"number must be a multiple of {len(nodes)}"
        )
    per_node = max(1, count // len(nodes))
    stocks = [_stock(machine, plan, node) for node in nodes]
    flat = _dealt(stocks, per_node)
    width = max(1, len(nodes) // count)
    return [tuple(flat[i : i + width]) for i in range(0, len(flat), width)]


def left_out(machine: Machine) -> Iterator[str]:
    """A line for each NUMA node that takes no part, and why."""
    for node in machine.nodes:
        if node not in machine.whole_nodes:
            lacks = "memory" if node in machine.cpus.values() else "CPUs"
            yield f"NUMA node {node} has no {lacks} and is not divided"


@dataclasses.dataclass(frozen=True)
class _Stock:
    """What there is to deal of one NUMA node."""

    node: int
    cores: Sequence[Core]
    pages: int
    #: The accelerators of each model.
    devices: Sequence[Sequence[Device]]
    #: For people, in the order of the above.
    names: Sequence[str]

    @property
    def amounts(self) -> list[int]:
        return [len(self.cores), self.pages, *map(len, self.devices)]

    def share(self, index: int, each: Sequence[int]) -> Share:
        cores, pages, *devices = each
        dealt = zip(self.devices, devices, strict=True)
        return Share(
            self.node,
            tuple(self.cores[index * cores : (index + 1) * cores]),
            pages,
            tuple(d for all_, n in dealt for d in all_[index * n :][:n]),
        )


def _dealt(stocks: Sequence[_Stock], count: int) -> list[Share]:
    """Equal shares of each node; what is left stays with the host.

    Placement counts slices of one class, so all must be like the smallest.
    """
    for stock in stocks:
        for amount, name in zip(stock.amounts, stock.names, strict=True):
            if amount < count:
                raise SplitError(
                    f"--split: {count} slices share {amount} {name} of NUMA "
                    f"node {stock.node}, which is less than one for each"
                )
    columns = zip(*(stock.amounts for stock in stocks), strict=True)
    each = [min(column) // count for column in columns]
    return [
        stock.share(index, each) for stock in stocks for index in range(count)
    ]


def _stock(machine: Machine, plan: Plan, node: int) -> _Stock:
    cores = [c for c in machine.cores if machine.cpus[c[0]] == node]
    page = page_size(machine, plan)
    kib = machine.memory.get(Pool(node, page), 0)
    if page == SMALL_PAGE:
        kib -= plan.reserved_memory
    return _Stock(
        node,
        cores[plan.reserved_cores :],
        max(0, kib // page),
        [_those(machine, node, model) for model in plan.accelerators],
        (
            f"cores (without --reserved-cores {plan.reserved_cores})",
            f"pages of {size(page)}",
            *(f"accelerators {model}" for model in plan.accelerators),
        ),
    )


def _those(machine: Machine, node: int, model: str) -> list[Device]:
    """The accelerators of a model behind a node, by address."""
    if machine.pci is None:
        raise SplitError(
            f"--accelerator {model}: the host's devices are unknown; give "
            "--devices, or a --connect to a libvirt that lists them"
        )
    there = sorted(machine.pci.values(), key=lambda device: device.key)
    if not any(device.model == model for device in there):
        raise SplitError(
            f"--accelerator {model}: the host has none; name VENDOR:PRODUCT "
            "as lspci -n does"
        )
    # Where there is one node, not every firmware says so.
    alone = machine.whole_nodes == (node,)
    nodes = (node, None) if alone else (node,)
    return [d for d in there if d.model == model and d.node in nodes]


def _joined(leaves: Sequence[tuple[Share, ...]]) -> tuple[Share, ...]:
    """What several slices have together, node by node."""
    found: Mapping[int, list[Share]] = defaultdict(list)
    for share in (share for leaf in leaves for share in leaf):
        found[share.node].append(share)
    return tuple(
        Share(
            node,
            tuple(core for share in shares for core in share.cores),
            sum(share.pages for share in shares),
            tuple(device for share in shares for device in share.devices),
        )
        for node, shares in found.items()
    )
