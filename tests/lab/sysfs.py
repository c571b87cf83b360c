# SPDX-License-Identifier: Apache-2.0
"""The L3 caches that the lab's libvirtd sees, whatever the host has.

libvirt takes their size from sysfs and their ways from resctrl, and refuses
what doesn't fit: both must be of one machine, the one that the lab makes up.
It has one NUMA node, which no cache goes beyond. The CPUs and their topology
stay the host's.
"""

import contextlib
from pathlib import Path

from ceilometer_perf import cpus
from tests.lab.resctrl.hardware import Hardware

PLACES = {
    "cpu": "/sys/devices/system/cpu",
    "node": "/sys/devices/system/node",
}
"""What is to be seen where, by the name of its folder in a lab's."""

PLACE, NODES = map(Path, PLACES.values())
LISTS = ("online", "possible", "present", "kernel_max")


def lay_out(folder: Path, hardware: Hardware) -> None:
    """Write what is to be seen at ``PLACES`` to a lab's folder."""
    _lay_out_node(folder / "node")
    ours = folder / "cpu"
    _copy(PLACE, ours, LISTS)
    numbers = sorted(int(path.name[3:]) for path in PLACE.glob("cpu[0-9]*"))
    for number in numbers:
        name = f"cpu{number}"
        topology = PLACE / name / "topology"
        # An offline CPU has none, nor has it caches.
        if not topology.exists():
            (ours / name).mkdir()
            continue
        _copy(
            topology,
            ours / name / "topology",
            tuple(path.name for path in topology.iterdir()),
        )
        domain = _domain(number, hardware)
        sharing = [n for n in numbers if _domain(n, hardware) == domain]
        _write_cache(
            ours / name / "cache" / "index3", hardware, domain, sharing
        )


def _lay_out_node(ours: Path) -> None:
    """One that has all CPUs, and what the host's first has besides."""
    for name in ("online", "possible", "has_cpu", "has_memory"):
        _write(ours / name, "0")
    theirs = NODES / "node0"
    for path in (
        *theirs.glob("*"),
        *theirs.glob("hugepages/hugepages-*/*"),
    ):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):
                _write(ours / path.relative_to(NODES), path.read_text())
    online = (PLACE / "online").read_text().strip()
    _write(ours / "node0/cpulist", online)
    mask = sum(1 << cpu for cpu in cpus.parse(online))
    _write(ours / "node0/cpumap", _mask(mask))
    _write(ours / "node0/distance", "10")


def _mask(mask: int) -> str:
    """As the kernel writes it: 32 bits between two commas."""
    words: list[str] = []
    while mask or not words:
        words.append(f"{mask & 0xFFFFFFFF:08x}")
        mask >>= 32
    return ",".join(reversed(words))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text.strip()}\n")


def _domain(cpu: int, hardware: Hardware) -> int:
    return hardware.domains[cpu % len(hardware.domains)]


def _write_cache(
    folder: Path, hardware: Hardware, domain: int, cpus: list[int]
) -> None:
    for name, text in (
        ("id", str(domain)),
        ("level", "3"),
        ("type", "Unified"),
        ("size", f"{hardware.l3_bytes >> 10}K"),
        ("shared_cpu_list", ",".join(map(str, cpus))),
    ):
        _write(folder / name, text)


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(parents=True)
    for name in names:
        with contextlib.suppress(OSError):
            (target / name).write_text((source / name).read_text())
