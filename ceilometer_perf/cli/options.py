# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

import argparse

LOCAL = "qemu:///system"


def add_connect(parser: argparse.ArgumentParser) -> None:
    """Where libvirt is."""
    parser.add_argument(
        "--connect",
        "--uri",
        dest="uri",
        default=LOCAL,
        metavar="URI",
        help=f"where libvirt listens (default: {LOCAL})",
    )


def add_agent(parser: argparse.ArgumentParser) -> None:
    """What the agent was told, of which this can be told otherwise."""
    parser.add_argument(
        "--config-file",
        action="append",
        default=[],
        metavar="FILE",
        help="the agent's ceilometer.conf; may be repeated (default: those "
        "that the agent reads)",
    )
    parser.add_argument(
        "--connect",
        "--uri",
        dest="uri",
        metavar="URI",
        help="where libvirt listens (default: what ceilometer.conf says)",
    )


def seconds(word: str) -> float:
    """A number of seconds on the command line."""
    value = float(word)
    if not 0 <= value <= MOST_SECONDS:
        raise ValueError(word)
    return value


MOST_SECONDS = 86400.0
