# SPDX-License-Identifier: Apache-2.0
"""What a cloud's instances boot: a disk that is one boot sector."""

from collections.abc import Mapping
from typing import Any

SIZE = 1 << 20
SECTOR = 512
# cli; 1: jmp 1b
SPIN = bytes.fromhex("fa eb fe")
# cli; 1: hlt; jmp 1b
IDLE = bytes.fromhex("fa f4 eb fd")


def _busy(ticks: int) -> bytes:
    """So many of the TSC at each interrupt of the timer, 18 a second.

    Whatever a loop takes on this host. Without the BIOS's handler, which
    takes longer where KVM emulates what it does.
    """
    return bytes.fromhex(
        "fa 31 c0 8e d8"  #         cli; xor ax, ax; mov ds, ax
        "c7 06 20 00 24 7c"  #      mov word [4 * 8], 0x7c24
        "a3 22 00 fb"  #            mov [4 * 8 + 2], ax; sti
        "f4 0f 31 66 89 c3"  #      1: hlt; rdtsc; mov ebx, eax
        "0f 31 66 29 d8"  #         2: rdtsc; sub eax, ebx
        f"66 3d {ticks.to_bytes(4, 'little').hex()}"  # cmp eax, ticks
        "72 f3 eb eb"  #            jb 2b; jmp 1b
        "50 b0 20 e6 20 58 cf"  #   0x7c24: push ax; out 0x20, 0x20; pop ax;
    )  #                            iret


# mov al, 0; out 0xf4, al: QEMU's isa-debug-exit ends it.
EXIT = bytes.fromhex("b0 00 e6 f4 eb fe")
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
    # A seventh of a CPU, and nearly half of one.
    "busy": (_busy(20_000_000), {}),
    "half": (_busy(60_000_000), {}),
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
