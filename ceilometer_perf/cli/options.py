# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

import argparse
import pathlib
import re
import sys
import uuid
from typing import Any

from ceilometer_perf import files
from ceilometer_perf.cli import errors
from ceilometer_perf.guest.domain import UNITS
from ceilometer_perf.guest.nova_files import NovaFiles

LOCAL = "qemu:///system"
SYS = pathlib.Path("/sys")


def name(word: str) -> str:
    """The name of a file or folder on the command line."""
    if not word:
        raise argparse.ArgumentTypeError("must name a file, and is empty")
    return word


def path(word: str) -> pathlib.Path:
    """The same as a path."""
    return pathlib.Path(name(word))


def add_connect(parser: argparse.ArgumentParser) -> None:
    """Where libvirt is."""
    parser.add_argument(
        "--connect",
        "--uri",
        dest="uri",
        default=LOCAL,
        metavar="URI",
        help=f"libvirt URI (default: {LOCAL})",
    )


def add_config_file(parser: argparse.ArgumentParser) -> None:
    """Where Ceilometer's configuration is."""
    parser.add_argument(
        "--config-file",
        action="append",
        default=[],
        type=name,
        metavar="FILE",
        help="the agent's ceilometer.conf; may be repeated (default: the "
        "files that the agent reads)",
    )


def add_agent(parser: argparse.ArgumentParser) -> None:
    """The agent's configuration files, and a URI in place of theirs."""
    add_config_file(parser)
    parser.add_argument(
        "--connect",
        "--uri",
        dest="uri",
        metavar="URI",
        help="libvirt URI (default: the one in ceilometer.conf)",
    )


class _Append(argparse.Action):
    """Collects NovaFiles."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        path: Any,
        option: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        names = () if before is None else before.names
        names += () if path is None else (path,)
        found = NovaFiles(names, self.option_strings[0])
        setattr(namespace, self.dest, found)


def add_nova_conf(
    parser: argparse._ActionsContainer,
    what: str,
    *,
    required: bool = False,
    nargs: str | None = None,
) -> None:
    """Where Nova's configuration is; with ``nargs="?"``, perhaps nowhere."""
    parser.add_argument(
        "--nova-conf",
        action=_Append,
        required=required,
        nargs=nargs,
        type=path,
        metavar="PATH",
        help=f"{what}: a file, or a folder of *.conf files; may be repeated, "
        "and what comes later wins",
    )


def add_sys(parser: argparse._ActionsContainer) -> None:
    """Where sysfs is."""
    parser.add_argument(
        "--sys",
        default=SYS,
        type=path,
        metavar="DIR",
        help=f"sysfs of the compute host (default: {SYS}, if that is this "
        "host)",
    )


def read_file(option: str, name: str) -> bytes:
    """The bytes of the file that an option names.

    ``-`` is standard input.
    """
    try:
        if name != "-":
            return files.read(name)
        if sys.stdin is None:
            raise OSError("standard input is closed")
        data = sys.stdin.buffer.read(files.MOST + 1)
        if len(data) > files.MOST:
            raise OSError(f"more than {files.MOST} bytes")
    except (OSError, ValueError) as error:
        raise errors.InputError(
            f"{option} {name}: {files.why(error)}"
        ) from error
    return data


def instance(option: str, word: str) -> str:
    """The UUID of an instance, given in an option.

    :raises InputError: it is not a UUID.
    """
    try:
        return str(uuid.UUID(word))
    except ValueError:
        raise errors.InputError(
            f"{option} {word!r} is not a UUID: see openstack server list "
            "or virsh list --uuid"
        ) from None


def seconds(word: str) -> float:
    """A number of seconds on the command line."""
    value = float(word)
    if not 0 <= value <= MOST_SECONDS:
        raise ValueError(word)
    return value


def page_size(word: str) -> int:
    """A page size on the command line, in KiB."""
    size = kibibytes(word)
    if size not in PAGES:
        raise ValueError(word)
    return size


def kibibytes(word: str) -> int:
    """A size on the command line, such as 2M or 1GiB, in KiB."""
    match = _SIZE.fullmatch(word)
    if match is None or match[2].lower() not in UNITS:
        raise ValueError(word)
    size = int(match[1]) * UNITS[match[2].lower()]
    if size > MOST_BYTES or size % 1024:
        raise ValueError(word)
    return size // 1024


_SIZE = re.compile(r"([0-9]{1,12})([a-zA-Z]+)")
MOST_BYTES = 1 << 50
PAGES = frozenset(1 << n for n in range(2, 25))  # KiB
MOST_SECONDS = 86400.0
