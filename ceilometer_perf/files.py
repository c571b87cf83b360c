# SPDX-License-Identifier: Apache-2.0
"""Files named by users: bounded in size, and never blocking."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

MOST = 4 << 20  # bytes, of what people or libvirt write


@contextlib.contextmanager
def opened(path: str | Path, flags: int = 0) -> Iterator[int]:
    """The descriptor of a regular file, with these flags of open(2) added.

    :raises OSError: it can't be opened, or is a pipe, device or folder.
    """
    # Otherwise opening a pipe without a writer would block for ever.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file
    finally:
        os.close(file)


def read(path: str | Path, most: int = MOST, flags: int = 0) -> bytes:
    """All that is in a regular file.

    :raises OSError: it can't be read, or has more bytes than ``most``.
    """
    with opened(path, flags) as file:
        data = b"".join(_pieces(file, most + 1))
    if len(data) > most:
        raise OSError(errno.EFBIG, f"more than {most} bytes", str(path))
    return data


def _pieces(file: int, most: int) -> Iterator[bytes]:
    # Not with os.fdopen: eventlet's, in nova-compute, closes the descriptor.
    while most and (piece := os.read(file, most)):
        yield piece
        most -= len(piece)


def peek(path: str, most: int = 1024) -> bytes | None:
    """What one read of a kernel's file says; None if it can't be read."""
    # os.open, not open(): this runs for each guest in each cycle.
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(file, most)
    except OSError:  # a process that ended in between
        return None
    finally:
        os.close(file)


def why(error: Exception) -> str:
    """What is wrong with a file, without its name and errno."""
    return getattr(error, "strerror", None) or str(error)
