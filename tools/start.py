# SPDX-License-Identifier: Apache-2.0
"""Run a tool: its name, then its arguments.

Ctrl-C and SIGTERM end it in the same way: what it started is ended, what it
wrote is removed, and a line says so.
"""

import importlib
import signal
import sys

from tools.progress import stderr


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def main(name: str) -> int:
    """Its exit code, as shells have it where a signal ended it."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code: int = importlib.import_module(f"tools.{name}").main()
    except Terminated:
        return _ended(name, "terminated", signal.SIGTERM)
    except KeyboardInterrupt:
        return _ended(name, "interrupted", signal.SIGINT)
    return code


def _terminate(*_: object) -> None:
    raise Terminated


def _ended(name: str, how: str, signum: signal.Signals) -> int:
    stderr.print(f"{name}.sh: {how}; everything is cleared away")
    return 128 + signum


if __name__ == "__main__":
    sys.exit(main(sys.argv.pop(1)))
