# SPDX-License-Identifier: Apache-2.0
"""Slices that were chosen for instances that don't run yet.

A small file below ``[DEFAULT] state_path`` of nova.conf, and a lock: choices
on a host are made and recorded one at a time.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

from oslo_concurrency import lockutils
from oslo_config import cfg

from ceilometer_perf import files
from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices.placement.errors import ChoiceError

#: Nova's own default is where its code is; distributions set this.
OPTS = [cfg.StrOpt("state_path", default="/var/lib/nova")]
FOLDER = "slices"


class Records:
    """The slice of each consumer, by UUID; only to be used in ``locked``."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def read(self) -> Mapping[str, str]:
        """All of them; none if none was chosen yet."""
        try:
            found = json.loads(files.read(self._path))
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(
            isinstance(name, str) for name in found.values()
        ):
            raise ChoiceError(
                f"{self._path} is corrupt: remove it once all instances "
                "that were given a slice run"
            )
        return found

    def write(self, records: Mapping[str, str]) -> None:
        """Replace all of them, or none if that fails."""
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(records, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        _give(new)
        new.replace(self._path)


def folder(where: NovaFiles) -> pathlib.Path:
    """Where nova-compute with this configuration keeps them."""
    with nova_conf.opened(where, {"DEFAULT": OPTS}) as conf:
        return pathlib.Path(conf.DEFAULT.state_path) / FOLDER


@contextlib.contextmanager
def locked(folder: pathlib.Path, node_uuid: str) -> Iterator[Records]:
    """The records of a node, for one at a time."""
    try:
        folder.mkdir(exist_ok=True)
        _give(folder)
        with lockutils.lock(
            node_uuid, external=True, lock_path=str(folder), do_log=False
        ):
            _give(folder / node_uuid)
            yield Records(folder / f"{node_uuid}.json")
    except OSError as error:
        raise ChoiceError(
            f"{folder}: {error.strerror or error}; [DEFAULT] state_path of "
            "nova.conf must name a folder that this user may write to"
        ) from error


def _give(path: pathlib.Path) -> None:
    """What root makes belongs to nova-compute, whose folder it is in."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
