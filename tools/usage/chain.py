# SPDX-License-Identifier: Apache-2.0
"""Follow every meter from libvirt to Gnocchi and to Prometheus.

On this machine, from nothing: the lab's guests, ceilometer-polling with our
pollsters, RabbitMQ, ceilometer-agent-notification, Gnocchi on PostgreSQL, and
Prometheus, which scrapes the agent's own exporter. Each is a private one on
the loopback interface; the host's services are left alone. All that the agent
sent is held against what libvirt told it, word for word, and against what
comes out of both databases. The exit code is 0 if all is equal. Needs root.
"""

import argparse

from tools.usage.numbers import add_polling

PARTS = ("gnocchi", "prometheus")


def parser() -> argparse.ArgumentParser:
    """What its command line may be."""
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
