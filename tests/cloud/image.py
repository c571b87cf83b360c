# SPDX-License-Identifier: Apache-2.0
"""What a cloud's instances boot: a disk that is one boot sector."""

from collections.abc import Mapping
from typing import Any

SIZE = 1 << 20
SECTOR = 512
# cli; 1: jmp 1b
SPIN = bytes.fromhex("fa eb fe")
# sti; 1: hlt; jmp 1b
IDLE = bytes.fromhex("fb f4 eb fd")
# sti; 1: hlt; mov ecx, N; 2: loop 2b; jmp 1b: with the timer's interrupts,
# 18 a second, a share of a CPU.
BUSY = bytes.fromhex("fb f4 66 b9 00 00 20 00 67 e2 fd eb f4")
# Glance looks for a partition where there is a boot sector's signature.
PARTITION = bytes.fromhex("80 010100 83 fefffe 01000000 ff070000")
TABLE = 446


def disk(code: bytes) -> bytes:
    """A raw disk whose boot sector runs the code."""
    sector = bytearray(SECTOR)
    sector[: len(code)] = code
    sector[TABLE : TABLE + len(PARTITION)] = PARTITION
    sector[-2:] = b"\x55\xaa"
    return bytes(sector).ljust(SIZE, b"\0")


#: By name: the code, and what the image says of its guests.
IMAGES: Mapping[str, tuple[bytes, Mapping[str, str]]] = {
    "spin": (SPIN, {}),
    "idle": (IDLE, {}),
    "busy": (BUSY, {}),
    "idle.nopmu": (IDLE, {"hw_pmu": "false"}),
    "idle.mask": (IDLE, {"hw_cpu_realtime_mask": "^0"}),
}


def upload(admin: Any) -> dict[str, str]:
    """Their ids by name; those that are there stay."""
    found = {each.name: each.id for each in admin.image.images()}
    for name, (code, properties) in IMAGES.items():
        if name not in found:
            found[name] = admin.image.create_image(
                name=name, data=disk(code), disk_format="raw",
                container_format="bare", visibility="public", wait=True,
                validate_checksum=False, **properties,
            ).id  # fmt: skip
    return found
