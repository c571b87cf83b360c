# SPDX-License-Identifier: Apache-2.0
"""Memory: pages that are there before a guest needs them, and stay."""

import re

from ceilometer_perf.host import cpu_sets, kernel_files
from ceilometer_perf.host.realtime.condition import (
    Condition,
    Found,
    State,
    sysctl,
    value,
)
from ceilometer_perf.host.realtime.host import Host

NODES = "sys/devices/system/node"
_NODE = re.compile(r"node\d+")
_POOL = re.compile(r"hugepages-(\d+)kB")
UNITS = {1 << 20: "GiB", 1 << 10: "MiB", 1: "KiB"}


def _hugepages(host: Host) -> Found:
    nodes = [p for p in host.glob(f"{NODES}/node*") if _NODE.match(p.name)]
    used = {
        path.name: _pools(host, f"{NODES}/{path.name}/hugepages")
        for path in nodes
        if (cpu_sets.cpu_list(path / "cpulist") or frozenset()) & host.cpus
    }
    if not used:
        return Found(None, f"no node in /{NODES} has these CPUs")
    text = "; ".join(f"{n}: {pools or 'none'}" for n, pools in used.items())
    return Found(all(used.values()), text)


def _pools(host: Host, folder: str) -> str:
    """``16 x 1 GiB, 4 free``."""
    found = []
    for path in host.glob(f"{folder}/hugepages-*"):
        name = _POOL.fullmatch(path.name)
        count = kernel_files.number(path / "nr_hugepages")
        if name and count:
            free = kernel_files.number(path / "free_hugepages")
            found.append(f"{count} x {_size(int(name[1]))}, {free} free")
    return ", ".join(found)


def _size(kib: int) -> str:
    unit = next(unit for unit in UNITS if kib % unit == 0)
    return f"{kib // unit} {UNITS[unit]}"


def _transparent(host: Host) -> Found:
    text = host.text("sys/kernel/mm/transparent_hugepage/enabled")
    if text is None:
        return Found(True, "not in this kernel")
    chosen = re.search(r"\[(\w+)\]", text)
    found = chosen[1] if chosen else text
    return Found(found == "never", found)


def _swap(host: Host) -> Found:
    text = host.text("proc/swaps")
    if text is None:
        return Found(True, "not in this kernel")
    found = [line.split()[0] for line in text.splitlines()[1:] if line]
    return Found(not found, ", ".join(found) or "none")


CONDITIONS = (
    Condition(
        name="hugepages",
        look=_hugepages,
        right="a pool on each NUMA node of {cpus}",
        why="hw:mem_page_size takes pages from these: they are never "
        "swapped, merged or moved, and need fewer entries of the TLB",
        remedy="boot with default_hugepagesz=1G hugepagesz=1G and "
        "hugepages=N, which are spread over the nodes",
        otherwise=State.WARNING,
        of_cpus=True,
    ),
    Condition(
        name="transparent_hugepage",
        look=_transparent,
        right="never",
        why="the kernel stops a guest's memory while it moves small pages "
        "into a large one; QEMU asks for that, so madvise is not enough",
        remedy="boot with transparent_hugepage=never, or write never to "
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ),
    Condition(
        name="ksm",
        look=value("sys/kernel/mm/ksm/run", "0", "2", absent="not built in"),
        right="0 or 2",
        why="merging pages keeps a CPU and the memory bus busy; realtime "
        "guests themselves are left out (nosharepages)",
        remedy="disable ksm and ksmtuned, and write 2 to "
        "/sys/kernel/mm/ksm/run",
        otherwise=State.WARNING,
    ),
    Condition(
        name="swap",
        look=_swap,
        right="none",
        why="a realtime guest is locked in memory, but what serves it (a "
        "virtual switch, storage, libvirtd) is not",
        remedy="swapoff -a, and remove swap from /etc/fstab",
        otherwise=State.WARNING,
    ),
    Condition(
        name="numa_balancing",
        look=value(
            "proc/sys/kernel/numa_balancing", "0", absent="not in this kernel"
        ),
        right="0",
        why="it unmaps pages to see which CPU uses them: each is a page "
        "fault of a vCPU",
        remedy=sysctl("kernel.numa_balancing = 0"),
    ),
)
