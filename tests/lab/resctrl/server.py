# SPDX-License-Identifier: Apache-2.0
"""The file system, as libfuse asks for it."""

import errno
import stat
import sys
import time
from pathlib import Path
from typing import Any

import mfusepy

from tests.lab import locks
from tests.lab.resctrl import mount
from tests.lab.resctrl.files import File, Tree
from tests.lab.resctrl.groups import Groups, refusal
from tests.lab.resctrl.hardware import Hardware


class Server(mfusepy.Operations):  # type: ignore[misc]
    """Answers libfuse out of a tree."""

    use_ns = True

    def __init__(self, folder: Path) -> None:
        self._pid_file = folder / mount.SERVER_PID
        self._settings = folder / mount.SETTINGS
        self._read_at = -1
        self._hardware = Hardware()
        groups = Groups(self.hardware, time.monotonic)
        self._tree = Tree(groups, self.hardware)
        # What an open file says does not change until it is closed.
        self._open: dict[int, bytes] = {}
        self._last = 0

    def hardware(self) -> Hardware:
        """As its settings have it now."""
        written_at = self._settings.stat().st_mtime_ns
        if written_at != self._read_at:
            self._hardware = Hardware.load(self._settings)
            self._read_at = written_at
        return self._hardware

    def init_with_config(self, _conn: Any, config: Any) -> None:
        """In the background by now, as another process."""
        locks.claim(self._pid_file)
        # Nothing is cached: files change by themselves.
        config.direct_io = 1
        config.entry_timeout = 0
        config.negative_timeout = 0
        config.attr_timeout = 0

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = self._tree.find(path)
        if not isinstance(found, File):
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        mode = 0o644 if found.write else 0o444
        return {"st_mode": stat.S_IFREG | mode, "st_nlink": 1}

    def readdir(self, path: str, fh: int) -> list[str]:
        found = self._tree.find(path)
        assert not isinstance(found, File)
        return [".", "..", *found]

    def mkdir(self, path: str, mode: int) -> int:
        self._tree.mkdir(path)
        return 0

    def rmdir(self, path: str) -> int:
        self._tree.rmdir(path)
        return 0

    def open(self, path: str, flags: int) -> int:
        self._file(path)
        self._last += 1
        return self._last

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        if offset == 0 or fh not in self._open:
            text = self._file(path).read()
            self._open[fh] = f"{text}\n".encode() if text else b""
        return self._open[fh][offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        write = self._file(path).write
        if write is None:
            raise refusal(errno.EACCES)
        for line in data.decode().splitlines():
            write(line.strip())
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        return 0  # as the shell's ">" asks for

    def _file(self, path: str) -> File:
        found = self._tree.find(path)
        assert isinstance(found, File)
        return found


def main() -> None:
    """Serve in the background until SIGTERM, or until it is unmounted."""
    (folder,) = map(Path, sys.argv[1:])
    mfusepy.FUSE(
        Server(folder),
        str(folder / mount.FOLDER),
        nothreads=True,
        allow_other=True,
        # Even if this process is killed.
        auto_unmount=True,
        default_permissions=True,
        fsname="resctrl",
        subtype="resctrl",
    )


if __name__ == "__main__":
    main()
