# SPDX-License-Identifier: Apache-2.0
"""Show samples of real guests from Ceilometer's own services.

Starts a private libvirtd with tiny guests, runs the polling and the
notification service on it, and prints how fast each counter of each guest
grew. Needs root, stops everything that it started, leaves any other libvirtd
alone.
"""

import argparse
from typing import Literal

from tools.usage.numbers import add_polling, at_least

KINDS: tuple[Literal["spin", "idle", "paused"], ...] = (
    "spin",
    "idle",
    "paused",
)


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    parser = argparse.ArgumentParser(
        prog="demo.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true",
        help="one Ceilometer sample a line on stdout, and nothing else there",
    )  # fmt: skip
    add_polling(parser, cycles=3)
    parser.add_argument(
        "--guests", type=at_least(1), default=3, metavar="N",
        help=f"guests, by turns {', '.join(KINDS)} (default: 3)",
    )  # fmt: skip
    parser.add_argument(
        "--noisy", action="store_true",
        help="then have a guest take another one's CPU, until the agent "
        "says who slows whom down (40 cycles more)",
    )  # fmt: skip
    return parser
