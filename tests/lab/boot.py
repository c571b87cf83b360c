# SPDX-License-Identifier: Apache-2.0
"""What the lab's guests boot: firmware of a few instructions.

They need no disk, no image, no operating system and no real firmware, which
would keep a CPU busy for seconds before it hands over, or for ever where KVM
is slow. They do exactly one thing, from the first moment on: spin on every
vCPU, use a share of one, or halt.
"""

from pathlib import Path

SIZE = 0x10000  # the least that QEMU takes
BASE = 0xF0000  # where its end is the end of the first MiB
RESET = 0xFFF0  # where the first vCPU begins; the others wait to be woken
OTHERS = 0x1000  # where they begin, in the page that the startup message names
INTERRUPTS = 0x2000  # the interrupt descriptor table, after its own descriptor
TICK = 0x3000
TIMER = 0x20  # the interrupt of the timer
CODE_SEGMENT = 8

#: From real mode into 32-bit protected mode, with all memory in one segment.
ENTER = bytes.fromhex(
    "fa"  #                            cli
    "2e 66 0f 01 16 18 00"  #          lgdtl %cs:0x18
    "0f 20 c0 0c 01 0f 22 c0"  #       %cr0 |= 1
    "66 ea 36 00 0f 00 08 00"  #       ljmpl $8, $0xf0036
    "17 00 1e 00 0f 00"  #       0x18: 3 descriptors at 0xf001e:
    "00 00 00 00 00 00 00 00"  #         none,
    "ff ff 00 00 00 9b cf 00"  #         code,
    "ff ff 00 00 00 93 cf 00"  #         data
    "66 b8 10 00 8e d8 8e d0"  # 0x36: %ds = %ss = 0x10
    "bc 00 70 00 00"  #                movl $0x7000, %esp
)
#: Wake the others as a multiprocessor system does: by an INIT and a startup
#: message from the interrupt controller, which names the page 0xf1000.
SPIN = bytes.fromhex(
    "c7 05 00 03 e0 fe 00 45 0c 00"  # movl $0x000c4500, 0xfee00300  (INIT)
    "b9 e8 03 00 00"  #                movl $1000, %ecx
    "e2 fe"  #                         1: loop 1b
    "c7 05 00 03 e0 fe f1 46 0c 00"  # movl $0x000c46f1, 0xfee00300
    "eb fe"  #                         1: jmp 1b
)
#: A timer of the interrupt controller runs down from 10 ms again and again.
#: Spin until it is at 8 ms, and halt until it has run down.
BUSY = bytes.fromhex(
    "c7 05 f0 00 e0 fe 0f 01 00 00"  # movl $0x10f, 0xfee000f0  (turn it on)
    "c7 05 e0 03 e0 fe 0b 00 00 00"  # movl $0xb, 0xfee003e0    (count in ns)
    "c7 05 20 03 e0 fe 20 00 02 00"  # movl $0x20020, 0xfee00320  (periodic)
    "0f 01 1d 00 20 0f 00"  #          lidtl 0xf2000
    "c7 05 80 03 e0 fe 80 96 98 00"  # movl $10000000, 0xfee00380
    "b9 c8 00 00 00"  #                1: movl $200, %ecx
    "e2 fe"  #                         2: loop 2b
    "81 3d 90 03 e0 fe 00 12 7a 00"  # cmpl $8000000, 0xfee00390
    "77 ed"  #                         ja 1b
    "fb f4"  #                         sti; hlt
)
IDLE = bytes.fromhex(
    "f4"  #    1: hlt
    "eb fd"  # jmp 1b
)
#: Acknowledge it and begin again. Not every KVM can return from it here: what
#: the CPU can't run as a guest KVM emulates, most of it.
ON_TICK = bytes.fromhex(
    "c7 05 b0 00 e0 fe 00 00 00 00"  # movl $0, 0xfee000b0
    "bc 00 70 00 00"  #                movl $0x7000, %esp
    "ea 72 00 0f 00 08 00"  #          ljmp $8, $1b
)

CODES = {"spin": SPIN, "busy": BUSY, "idle": IDLE, "paused": IDLE}


def write(folder: Path) -> None:
    """Write the firmware, named as the kinds of guests that boot it."""
    folder.mkdir()
    for name, code in CODES.items():
        (folder / name).write_bytes(image(code))


def image(code: bytes) -> bytes:
    """Firmware that runs the code on the first vCPU, in protected mode."""
    rom = bytearray(SIZE)
    for place, part in (
        (0, ENTER + code),
        (OTHERS, bytes.fromhex("fa eb fe")),  # cli; 1: jmp 1b
        (INTERRUPTS, _interrupts()),
        (TICK, ON_TICK),
        (RESET, bytes.fromhex("ea 00 00 00 f0")),  # ljmp $0xf000, $0
    ):
        rom[place : place + len(part)] = part
    return bytes(rom)


def _interrupts() -> bytes:
    """The table and, before it, where it is."""
    handler = BASE + TICK
    gate = (handler & 0xFFFF).to_bytes(2, "little")
    gate += CODE_SEGMENT.to_bytes(2, "little") + b"\0\x8e"
    gate += (handler >> 16).to_bytes(2, "little")
    table = bytes(TIMER * len(gate)) + gate
    where = BASE + INTERRUPTS + 8
    descriptor = (len(table) - 1).to_bytes(2, "little")
    descriptor += where.to_bytes(4, "little")
    return descriptor.ljust(8, b"\0") + table
