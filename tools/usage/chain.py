# SPDX-License-Identifier: Apache-2.0
"""Follow every meter from libvirt to Gnocchi and to Prometheus.

On this machine, from nothing: the lab's guests, ceilometer-polling with our
pollsters, RabbitMQ, ceilometer-agent-notification, Gnocchi on PostgreSQL, and
Prometheus, which scrapes the agent's own exporter. Each is a private instance
on the loopback interface; the host's services are left alone. Every value that
the agent sent is compared with what libvirt reported to it and with both
databases. The exit code is 0 if all is equal. Needs root.
"""

import argparse

from tools.usage.numbers import add_polling

PARTS = ("gnocchi", "prometheus")


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    parser = argparse.ArgumentParser(
        prog="chain.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true", help="JSON on stdout, and nothing else"
    )
    parser.add_argument(
        "--without", choices=PARTS, metavar="PART",
        help=f"leave out one of {', '.join(PARTS)}; without gnocchi there is "
        "no RabbitMQ, notification agent and PostgreSQL either",
    )  # fmt: skip
    add_polling(parser, cycles=5)
    return parser
