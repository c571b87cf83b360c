# SPDX-License-Identifier: Apache-2.0
"""The interrupts of a CPU, as /proc/interrupts of x86 has them."""

from pathlib import Path

#: The kernel has another CPU do something, such as read a counter there.
FUNCTION_CALLS = "CAL"
#: It has another CPU choose the thread to run again.
RESCHEDULING = "RES"


def of(cpu: int) -> dict[str, int]:
    """How many of each kind it got since it was booted."""
    return parse(Path("/proc/interrupts").read_text(), cpu)


def parse(text: str, cpu: int) -> dict[str, int]:
    """By number, or by the kernel's three letters; none of a CPU that is off.

    Counts that are of no CPU, such as ``ERR``, are left out.
    """
    head, *lines = map(str.split, text.splitlines())
    if f"CPU{cpu}" not in head:
        return {}
    column = 1 + head.index(f"CPU{cpu}")
    return {
        words[0].rstrip(":"): int(words[column])
        for words in lines
        if len(words) > len(head)
    }
