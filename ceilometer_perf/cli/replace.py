# SPDX-License-Identifier: Apache-2.0
"""Files that commands overwrite."""

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from ceilometer_perf import files

BACKUP = ".bak"


def replace(name: str, before: bytes, data: bytes) -> pathlib.Path:
    """Replace a file's contents atomically, and keep those of ``before``.

    Mode, owner, extended attributes and symbolic links to it stay.

    :returns: the backup, FILE.bak; an older backup is overwritten.
    :raises OSError: nothing was changed.
    """
    path = pathlib.Path(name)
    if path.is_symlink():
        path = path.resolve()
    backup = path.with_name(path.name + BACKUP)
    with _beside(path, data) as new, _beside(path, before) as old:
        if files.read(path) != before:
            raise BlockingIOError(
                errno.EAGAIN,
                "it changed in the meantime: run the command again",
            )
        old.replace(backup)
        new.replace(path)
    return backup


@contextlib.contextmanager
def _beside(path: pathlib.Path, data: bytes) -> Iterator[pathlib.Path]:
    """Write a temporary file with a file's mode, owner and attributes."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            shutil.copystat(path, name)
            # Only root may change the owner, and only root meets others'
            # files.
            owner = path.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)
            os.fchmod(handle, owner.st_mode & 0o7777)
            file.write(data)
            file.flush()
            os.fsync(handle)
        yield pathlib.Path(name)
    finally:
        with contextlib.suppress(OSError):
            pathlib.Path(name).unlink()
