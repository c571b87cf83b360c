# SPDX-License-Identifier: Apache-2.0
"""What a cloud's instances run on: KVM, or TCG."""

import functools
import subprocess
import tempfile
from pathlib import Path

from tests.cloud import image
from tests.lab import kvm

ACCELERATOR = "kvm"
PATIENCE = 2.0  # seconds; a BIOS takes a fifth of one


@functools.cache
def virt_type() -> str:
    """Nova's option: KVM where there is one that runs a BIOS quickly.

    Nested ones may emulate it instruction by instruction, and each boot
    then takes seconds of CPU time: 100 times what TCG needs.
    """
    return "kvm" if kvm.usable() and _boots_quickly() else "qemu"


def _boots_quickly() -> bool:
    """Whether a boot sector under KVM comes to its own end in time."""
    with tempfile.NamedTemporaryFile(prefix="ceilometer-perf-") as disk:
        Path(disk.name).write_bytes(image.disk(image.EXIT))
        command = [
            "qemu-system-x86_64", "-accel", ACCELERATOR, "-m", "32",
            "-nodefaults", "-display", "none",
            "-drive", f"file={disk.name},format=raw",
            "-device", "isa-debug-exit,iobase=0xf4",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 1  # (0 << 1) | 1
