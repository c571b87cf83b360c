# SPDX-License-Identifier: Apache-2.0
"""The L3 caches that the lab's libvirtd sees, whatever the host has.

libvirt takes their size from sysfs and their ways from resctrl, and refuses
what doesn't fit: both must be of one machine, the one that the lab makes up.
The CPUs and their topology stay the host's.
"""

import contextlib
from pathlib import Path

from tests.lab.resctrl.hardware import Hardware

PLACE = "/sys/devices/system/cpu"
FOLDER = "cpu"
LISTS = ("online", "possible", "present", "kernel_max")


def lay_out(folder: Path, hardware: Hardware) -> None:
    """Write what is to be seen at ``PLACE`` to a lab's folder."""
    ours = folder / FOLDER
    _copy(Path(PLACE), ours, LISTS)
    cpus = sorted(int(path.name[3:]) for path in Path(PLACE).glob("cpu[0-9]*"))
    for number in cpus:
        name = f"cpu{number}"
        topology = Path(PLACE, name, "topology")
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
        sharing = [n for n in cpus if _domain(n, hardware) == domain]
        _write_cache(
            ours / name / "cache" / "index3", hardware, domain, sharing
        )


def _domain(cpu: int, hardware: Hardware) -> int:
    return hardware.domains[cpu % len(hardware.domains)]


def _write_cache(
    folder: Path, hardware: Hardware, domain: int, cpus: list[int]
) -> None:
    folder.mkdir(parents=True)
    for name, text in (
        ("id", str(domain)),
        ("level", "3"),
        ("type", "Unified"),
        ("size", f"{hardware.l3_bytes >> 10}K"),
        ("shared_cpu_list", ",".join(map(str, cpus))),
    ):
        (folder / name).write_text(f"{text}\n")


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(parents=True)
    for name in names:
        with contextlib.suppress(OSError):
            (target / name).write_text((source / name).read_text())
