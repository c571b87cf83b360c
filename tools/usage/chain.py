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

from tools.usage.numbers import at_least

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
    parser.add_argument(
        "--cycles", type=at_least(2), default=5, metavar="N",
        help="polling cycles, at least 2: rates need two (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--interval", type=at_least(1), default=2, metavar="SECONDS",
        help="time between cycles (default: 2)",
    )  # fmt: skip
    return parser
