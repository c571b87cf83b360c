# SPDX-License-Identifier: Apache-2.0
"""The command ``ceilometer-perf``: what all of its commands share."""

import importlib.metadata
import sys

from cliff.app import App
from cliff.commandmanager import CommandManager


class CeilometerPerf(App):
    """Commands are entry points of ``ceilometer_perf.cli``."""

    def __init__(self) -> None:
        super().__init__(
            description="Hardware counters of instances: meters, hosts, "
            "domain XML",
            version=importlib.metadata.version("ceilometer-perf"),
            command_manager=CommandManager("ceilometer_perf.cli"),
            deferred_help=True,
        )


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    # Without any, cliff would open a shell of its own.
    return int(CeilometerPerf().run(arguments or ["help"]))
