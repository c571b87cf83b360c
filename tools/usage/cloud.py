# SPDX-License-Identifier: Apache-2.0
"""A whole OpenStack on this machine, from nothing, on the loopback alone.

PostgreSQL, RabbitMQ, Keystone, Glance, Placement, Neutron (without agents),
Nova, Gnocchi behind Keystone, and Ceilometer with our pollsters. Each compute
host is a mount namespace with its own libvirtd, nova-compute and polling
agent, which runs as a user without privilege. The host's services are left
alone. Hardware counters and resctrl are emulated, and labelled so. Needs root.
"""

import argparse
from pathlib import Path

from tools.usage.numbers import at_least

FOLDER = Path("/var/tmp/ceilometer-perf-cloud")  # noqa: S108 - root's own

COMMANDS = {
    "up": "bring it up, and leave it running",
    "demo": "boot an ordinary user's instances in it, and show their meters",
    "status": "show its services and hosts; 1 if one has ended",
    "down": "end it, and leave nothing of it",
}


def parser() -> argparse.ArgumentParser:
    """What its command line may be."""
    parser = argparse.ArgumentParser(
        prog="cloud.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument(
            "--folder", type=Path, default=FOLDER, metavar="DIR",
            help="all that it has on disk (default: %(default)s)",
        )  # fmt: skip
        if name == "up":
            command.add_argument(
                "--computes", type=int, choices=(1, 2), default=1,
                help="compute hosts (default: 1)",
            )  # fmt: skip
            command.add_argument(
                "--interval", type=at_least(1), default=5, metavar="S",
                help="seconds between two polling cycles (default: 5)",
            )  # fmt: skip
        if name in ("demo", "status"):
            command.add_argument(
                "--json", action="store_true",
                help="JSON on stdout, and nothing else",
            )  # fmt: skip
    return parser
