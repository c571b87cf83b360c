# SPDX-License-Identifier: Apache-2.0
"""The hardware events of this host, and the library that makes them up."""

import ctypes
import functools
import os
import struct
import subprocess
import tempfile
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.requirements import find

# libvirt's name: the number, of linux/perf_event.h, of what it opens.
HARDWARE_EVENTS = {
    "cpu_cycles": 0,
    "instructions": 1,
    "cache_references": 2,
    "cache_misses": 3,
    "branch_instructions": 4,
    "branch_misses": 5,
    "bus_cycles": 6,
    "stalled_cycles_frontend": 7,
    "stalled_cycles_backend": 8,
    # Not 9: libvirt looks for a macro, and the header has an enum.
    "ref_cpu_cycles": 0,
}
# By that number: what the fake PMU counts in a microsecond of CPU time. No two
# are alike, so that none is taken for another. They are those of a CPU of
# 3 GHz and 1.5 instructions in a cycle. A fifth of these are branches, of
# which 2 % are mispredicted; a fifth of the cache references are misses, which
# come to about the memory traffic that the lab makes up.
RATES = (3000, 4500, 75, 15, 900, 18, 100, 300, 600, 2400)
SOFTWARE_EVENTS = (
    "cpu_clock",
    "task_clock",
    "page_faults",
    "page_faults_min",
    "page_faults_maj",
    "alignment_faults",
    "emulation_faults",
    "context_switches",
    "cpu_migrations",
)

SYS_PERF_EVENT_OPEN = 298  # on x86_64
ATTR_SIZE = 112
ATTR_FLAGS = 0b11  # disabled, inherit: as libvirt opens it

SOURCES = Path(__file__).parent / "fakepmu"


def missing_events() -> tuple[str, ...]:
    """The hardware events that this host refuses."""
    return tuple(
        name for name, number in HARDWARE_EVENTS.items() if not _opens(number)
    )


def made_up() -> dict[str, int]:
    """By hardware event that this host refuses: what it counts in a us."""
    return {name: RATES[HARDWARE_EVENTS[name]] for name in missing_events()}


def real_pmu() -> bool:
    """Whether this host counts CPU cycles in hardware."""
    return _opens(HARDWARE_EVENTS["cpu_cycles"])


def _opens(number: int) -> bool:
    attr = struct.pack("=IIQQQQQ", 0, ATTR_SIZE, number, 0, 0, 0, ATTR_FLAGS)
    attr = attr.ljust(ATTR_SIZE, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.syscall(SYS_PERF_EVENT_OPEN, attr, 0, -1, -1, 0)
    if handle < 0:
        return False
    os.close(handle)
    return True


def build_fake(library: Path, run_dir: Path) -> None:
    """Write the library and lay out the PMU that it redirects to."""
    library.write_bytes(_compiled())
    _lay_out_cqm(run_dir / "intel_cqm")


@functools.cache
def _compiled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library"
        _compile(library)
        return library.read_bytes()


def _compile(library: Path) -> None:
    command = [find("gcc", "gcc and libc6-dev"), "-shared", "-fPIC", "-O1"]
    command += ["-Wall", "-Wextra", "-Werror", "-o", str(library)]
    command += [f"-DHARDWARE_RATES={','.join(map(str, RATES))}"]
    command += [str(SOURCES / "fakepmu.c")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        reason = (errors or done.stderr.splitlines() or ["no reason"])[0]
        raise LabError(f"gcc cannot compile the fake PMU: {reason}")


def _lay_out_cqm(folder: Path) -> None:
    # The form of the PMU that Linux had for Intel's cache monitoring until
    # 4.14. libvirt reads no type of more than ten bytes, and no scale that
    # ends in a newline.
    events = folder / "events"
    events.mkdir(parents=True)
    (folder / "type").write_text("57005\n")
    (events / "llc_occupancy").write_text("event=0x01\n")
    (events / "llc_occupancy.scale").write_text("4096")
    (events / "total_bytes").write_text("event=0x02\n")
    (events / "local_bytes").write_text("event=0x03\n")
