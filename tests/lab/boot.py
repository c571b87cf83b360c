# SPDX-License-Identifier: Apache-2.0
"""What the lab's guests boot: multiboot files of a few instructions.

They need no disk, no image and no operating system, and they do exactly one
thing: spin on every vCPU, or halt.
"""

import struct
from pathlib import Path

MAGIC = 0x1BADB002
LOADED_AS_TOLD = 1 << 16
LOAD_ADDRESS = 0x100000
HEADER = struct.Struct("<8I")
FILE_SIZE = 4096  # QEMU refuses much shorter ones

# The boot loader starts the first vCPU alone, in 32-bit protected mode. It
# wakes the others as a multiprocessor system does: by an INIT and a startup
# message from its interrupt controller, which names the page where they
# begin, in real mode.
SPIN = bytes.fromhex(
    "fa"  #                            cli
    "66 c7 05 00 80 00 00 eb fe"  #    movw $0xfeeb, 0x8000   (1: jmp 1b)
    "c7 05 00 03 e0 fe 00 45 0c 00"  # movl $0x000c4500, 0xfee00300  (INIT)
    "b9 00 00 10 00"  #                movl $0x100000, %ecx
    "e2 fe"  #                         1: loop 1b
    "c7 05 00 03 e0 fe 08 46 0c 00"  # movl $0x000c4608, 0xfee00300  (0x8000)
    "eb fe"  #                         1: jmp 1b
)
IDLE = bytes.fromhex(
    "fa"  #    1: cli
    "f4"  #    hlt
    "eb fc"  # jmp 1b
)


def write(folder: Path) -> None:
    """Write the boot files, named as the guest kinds that boot them."""
    folder.mkdir()
    for name, code in (("spin", SPIN), ("idle", IDLE), ("paused", IDLE)):
        (folder / name).write_bytes(image(code))


def image(code: bytes) -> bytes:
    """A multiboot file that runs the code."""
    header = HEADER.pack(
        MAGIC,
        LOADED_AS_TOLD,
        -(MAGIC + LOADED_AS_TOLD) & 0xFFFFFFFF,
        LOAD_ADDRESS,  # of the header
        LOAD_ADDRESS,  # of the file
        0,  # its end: all of it
        0,  # no memory to clear
        LOAD_ADDRESS + HEADER.size,  # of the code
    )
    return (header + code).ljust(FILE_SIZE, b"\0")
