# SPDX-License-Identifier: Apache-2.0
"""Entry point of ``ceilometer-perf``, before any slow import."""

SIGINT_EXIT = 130


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    try:
        from ceilometer_perf.cli import shell

        return shell.run(argv)
    except KeyboardInterrupt:
        return SIGINT_EXIT
