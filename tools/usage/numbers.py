# SPDX-License-Identifier: Apache-2.0
"""Numbers on the tools' command lines."""

import argparse
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from ``least`` on."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number of at least {least}"
            )
        return int(text)

    return number


def add_polling(parser: argparse.ArgumentParser, *, cycles: int) -> None:
    """How often the agent polls, and how fast."""
    parser.add_argument(
        "--cycles", type=at_least(2), default=cycles, metavar="N",
        help=f"polling cycles, at least 2: rates need two (default: {cycles})",
    )  # fmt: skip
    parser.add_argument(
        "--interval", type=at_least(1), default=2, metavar="SECONDS",
        help="time between cycles (default: 2)",
    )  # fmt: skip
