# SPDX-License-Identifier: Apache-2.0
"""Files that commands write over."""

import contextlib
import os
import pathlib
import shutil
import tempfile

BACKUP = ".bak"


def replace(name: str, data: bytes) -> pathlib.Path:
    """Replace a file's contents atomically, and keep the old ones.

    Mode, owner, extended attributes and symbolic links to it stay.

    :returns: the backup, FILE.bak; an older backup is overwritten.
    :raises OSError: nothing has changed then.
    """
    path = pathlib.Path(name)
    if path.is_symlink():
        path = path.resolve()
    backup = path.with_name(path.name + BACKUP)
    _put(path, backup, path.read_bytes())
    _put(path, path, data)
    return backup


def _put(like: pathlib.Path, path: pathlib.Path, data: bytes) -> None:
    """Write a file, with the mode, owner and attributes of ``like``."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            shutil.copystat(like, name)
            # Giving a file away takes root, who alone finds others' files.
            owner = like.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)
            os.fchmod(handle, owner.st_mode & 0o7777)
            file.write(data)
            file.flush()
            os.fsync(handle)
        pathlib.Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            pathlib.Path(name).unlink()
        raise
