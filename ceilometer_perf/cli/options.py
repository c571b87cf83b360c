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
