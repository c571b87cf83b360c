# SPDX-License-Identifier: Apache-2.0
"""What slices take from a host, compared with what it has."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from ceilometer_perf import cpus
from ceilometer_perf.slices.breach import Breach
from ceilometer_perf.slices.footprint import Footprint, size
from ceilometer_perf.slices.machine import Device, Machine
from ceilometer_perf.slices.overlap import (
    Footprints,
    amounts,
    excess,
    line,
    overdrawn,
)
from ceilometer_perf.slices.template import Place
from ceilometer_perf.slices.tree import Tree


def breaches(
    tree: Tree, footprints: Footprints, machine: Machine
) -> Iterator[Breach]:
    """Everything that the host does not have, in the order of the tree."""
    for name in tree:
        footprint = footprints[name]
        yield from _cpus(name, footprint, machine)
        yield from _memory(name, footprint, machine)
        yield from _devices(name, footprint, machine)
        yield from _far(name, footprint, machine)
    yield from _all_memory(tree, footprints, machine)


def _cpus(
    name: str, footprint: Footprint, machine: Machine
) -> Iterator[Breach]:
    lost: dict[Place, list[int]] = defaultdict(list)
    for cpu, place in footprint.cpus.items():
        if cpu not in machine.cpus:
            lost[place].append(cpu)
    for place, numbers in lost.items():
        what = f"the host has no CPU {cpus.text(numbers)}"
        yield Breach("missing", (name,), what, (place,))


def _memory(
    name: str, footprint: Footprint, machine: Machine
) -> Iterator[Breach]:
    nodes = machine.nodes
    for pool, amount in footprint.memory.items():
        if pool.node is None and len(nodes) > 1:
            what = "the memory is not bound to a NUMA node: add <numatune>"
            yield Breach("floating", (name,), what, (amount.place,))
        elif pool.node is not None and pool.node not in nodes:
            what = f"the host has no NUMA node {pool.node}"
            yield Breach("missing", (name,), what, (amount.place,))
    for pool, wanted, there in excess(amounts(footprint), machine.memory):
        if pool.node is None or pool.node in nodes:
            what = f"{name} takes {size(wanted)} of {pool}, the host has "
            what += size(there)
            yield Breach("missing", (name,), what, (line(footprint, pool),))


def _all_memory(
    tree: Tree, footprints: Footprints, machine: Machine
) -> Iterator[Breach]:
    """Slices that don't exclude each other fit in together."""
    fitting = [
        root
        for root in tree.roots
        if not any(excess(amounts(footprints[root]), machine.memory))
    ]
    for name, pool, wanted, there in overdrawn(
        footprints, fitting, machine.memory
    ):
        yield Breach(
            "missing",
            (name,),
            f"{name} and the top-level slices before it take {size(wanted)} "
            f"of {pool}, the host has {size(there)}",
            (line(footprints[name], pool),),
        )


def _devices(
    name: str, footprint: Footprint, machine: Machine
) -> Iterator[Breach]:
    for what, there, device, place in _taken(footprint, machine):
        if there is None:
            what += " is not checked: the host's devices are unknown"
            yield Breach("unchecked", (name,), what, (place,))
        elif device is None:
            what = f"the host has no {what}"
            yield Breach("missing", (name,), what, (place,))


def _taken(
    footprint: Footprint, machine: Machine
) -> Iterator[tuple[str, Mapping[str, Device] | None, Device | None, Place]]:
    """Each device: for people, of which there are, what it is, its line."""
    for kind, taken, there in (
        ("PCI device", footprint.pci, machine.pci),
        ("mediated device", footprint.mdevs, machine.mdevs),
    ):
        for key, place in taken.items():
            yield f"{kind} {key}", there, (there or {}).get(key), place


def _far(
    name: str, footprint: Footprint, machine: Machine
) -> Iterator[Breach]:
    homes: dict[int, Place] = {}
    for cpu, place in footprint.cpus.items():
        if cpu in machine.cpus:
            homes.setdefault(machine.cpus[cpu], place)
    for what, node, place in _behind_nodes(footprint, machine):
        if node in machine.nodes and machine.is_far(node, homes):
            what += f" is behind NUMA node {node}, the CPUs of {name} are in "
            what += cpus.text(homes)
            yield Breach("far", (name,), what, (place, *homes.values()))


def _behind_nodes(
    footprint: Footprint, machine: Machine
) -> Iterator[tuple[str, int | None, Place]]:
    for what, _, device, place in _taken(footprint, machine):
        if device is not None:
            yield what, device.node, place
    for pool, amount in footprint.memory.items():
        yield f"memory of {size(amount.kib)}", pool.node, amount.place
