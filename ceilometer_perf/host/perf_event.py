# SPDX-License-Identifier: Apache-2.0
"""The system call ``perf_event_open``, which no C library wraps."""

import ctypes
import errno
import functools
import os
import platform
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

#: Its number on each architecture, of the kernel's ``unistd.h``.
NUMBERS = {
    "aarch64": 241,
    "loongarch64": 241,
    "ppc64": 319,
    "ppc64le": 319,
    "riscv64": 241,
    "s390x": 331,
    "x86_64": 298,
}

# struct perf_event_attr in its first version, which every kernel takes.
ATTR = struct.Struct("=IIQQQQQIIQ")


def flag(position: int, byteorder: str = sys.byteorder) -> int:
    """A flag of perf_event_attr, by its position in the C bit field.

    C compilers fill a bit field from the lowest bit on little-endian
    machines, and from the highest on big-endian ones (s390x, ppc64).
    """
    return 1 << (position if byteorder == "little" else 63 - position)


INHERIT = flag(1)
EXCLUDE_KERNEL = flag(5)
INHERIT_THREAD = flag(35)  # Linux 5.13; not by processes that are forked
TOTAL_TIMES = 0b11  # PERF_FORMAT_TOTAL_TIME_ENABLED and _RUNNING
#: The same and PERF_FORMAT_GROUP: how many events there are, both times, and
#: the count of each.
GROUP_TIMES = TOTAL_TIMES | 0b1000
_CLOSE_ON_EXEC = 8
COUNT = struct.Struct("=QQQ")  # the value, time enabled, time running

# The kernel rotates events every few milliseconds.
SECONDS = 0.02

#: The type and the config of an event.
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Growth:
    """A count, and the ns in which it was to grow, and did."""

    count: int
    enabled: int
    running: int


class Kernel:
    """The kernel that this process runs on."""

    def try_open(self, event: Pair, *, user_only: bool = False) -> None:
        """Open an event on this process, and close it again.

        OSError says why it can't be. With ``user_only`` what the kernel does
        is not counted, which is less than libvirt asks for, and allowed to
        more users.
        """
        flags = INHERIT | (EXCLUDE_KERNEL if user_only else 0)
        os.close(open_event(event, flags))

    def count(self, event: Pair, *, user_only: bool = False) -> Growth:
        """What an event counts while this process is busy for a moment.

        :raises OSError: as :meth:`try_open`.
        """
        flags = INHERIT | (EXCLUDE_KERNEL if user_only else 0)
        (found,) = _counted([event], flags)
        return found

    def share(self, events: Sequence[Pair]) -> float:
        """1.0 if each has a counter of its own; less if they take turns."""
        return min(map(_share, _counted(events, INHERIT)), default=1.0)


def _counted(events: Sequence[Pair], flags: int) -> list[Growth]:
    with ExitStack() as stack:
        handles = []
        for event in events:
            handles.append(open_event(event, flags))
            stack.callback(os.close, handles[-1])
        # An event counts while its process is on a CPU.
        end = time.thread_time() + SECONDS
        while time.thread_time() < end:
            pass
        return [
            Growth(*COUNT.unpack(os.read(handle, COUNT.size)))
            for handle in handles
        ]


def _share(found: Growth) -> float:
    """The part of the time that an event was on a counter."""
    return found.running / found.enabled if found.enabled else 0.0


def open_event(
    event: Pair,
    flags: int = INHERIT,
    *,
    thread: int = 0,
    leader: int = -1,
    read_format: int = TOTAL_TIMES,
) -> int:
    """A handle of an event that counts from now on.

    On any CPU, in ``thread`` (0 is this one), by default in no group, as
    libvirt opens events.

    :raises OSError: the kernel refuses it.
    """
    number = NUMBERS.get(platform.machine())
    # A 32-bit process has other numbers than the kernel that it runs on.
    if number is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, f"unknown on {platform.machine()}")
    kind, config = event
    attr = ATTR.pack(
        kind, ATTR.size, config, 0, 0, read_format, flags, 0, 0, 0
    )
    rest = map(ctypes.c_long, (thread, -1, leader, _CLOSE_ON_EXEC))
    handle: int = _libc().syscall(ctypes.c_long(number), attr, *rest)
    if handle < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return handle


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
