# SPDX-License-Identifier: Apache-2.0
"""The command ``ceilometer-perf``: what all of its commands share."""

import contextlib
import importlib.metadata
import logging
import os
import sys
from pathlib import Path

from cliff.app import App
from cliff.commandmanager import CommandManager

from ceilometer_perf.cli import errors
from ceilometer_perf.cli.values import printable

SIGPIPE_EXIT = 141  # as cliff and shells have it


class _Commands(CommandManager):
    """Imports the command that is run; cliff's own imports all of them."""

    def load_commands(self, namespace: str) -> None:
        """Find the commands in the entry points of a namespace."""
        self.group_list.append(namespace)
        for entry in importlib.metadata.entry_points(group=namespace):
            self.commands[entry.name.replace("_", " ")] = entry


class CeilometerPerf(App):
    """Commands are entry points of ``ceilometer_perf.cli``."""

    #: Why standard output could not be written.
    full: BaseException | None = None

    def __init__(self) -> None:
        super().__init__(
            description="Hardware counters of instances: meters, hosts, "
            "domain XML",
            version=importlib.metadata.version("ceilometer-perf"),
            command_manager=_Commands("ceilometer_perf.cli"),
            deferred_help=True,
        )

    def clean_up(
        self, cmd: object, result: int, err: BaseException | None
    ) -> None:
        """Keep what cliff would only log."""
        if errors.is_output(err):
            self.full = err

    def configure_logging(self) -> None:
        """One line per message, without control characters."""
        try:
            super().configure_logging()
        except OSError as error:
            wrong = errors.InputError(
                f"--log-file {self.options.log_file}: {error.strerror}; "
                "name a writable file"
            )
            self.stderr.write(errors.line(wrong) + "\n")
            raise SystemExit(errors.BAD_INPUT) from error
        for handler in logging.getLogger().handlers:
            handler.addFilter(_fit)


def _fit(record: logging.LogRecord) -> bool:
    if errors.is_output(record.msg):
        return False  # _run raises it
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def run(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    # Python sets closed streams to None.
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if sys.stdout is None:
        closed = errors.InputError("standard output is closed")
        sys.stderr.write(errors.line(closed) + "\n")
        return errors.BAD_INPUT
    # Before options are read, cliff would log failures with a traceback.
    CeilometerPerf.LOG.addHandler(logging.NullHandler())
    try:
        return _run(arguments)
    except BrokenPipeError:
        _write_no_more()
        return SIGPIPE_EXIT
    except OSError as error:
        _write_no_more()
        sys.stderr.write(errors.line(error) + "\n")
        return errors.BAD_INPUT


def _run(arguments: list[str]) -> int:
    app = CeilometerPerf()
    try:
        # Without arguments, cliff would open an interactive shell.
        code = int(app.run(arguments or ["help"]))
    finally:  # argparse exits after --version and --help
        sys.stdout.flush()
    if app.full is not None:
        raise app.full
    return code


def _write_no_more() -> None:
    """Or Python would flush again what can't be written, and complain."""
    with contextlib.suppress(OSError, ValueError):  # it may be no real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
