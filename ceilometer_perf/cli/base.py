# SPDX-License-Identifier: Apache-2.0
"""What commands are made of: kinds of output, exit codes, errors.

A command is one of these, in a module of its own, and a line in setup.cfg.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from cliff import command, lister, show

from ceilometer_perf.cli import errors
from ceilometer_perf.cli.table import Table

Names = Sequence[str]


class _Base:
    """Mixed into a cliff command, before it: errors and exit codes.

    ``code`` is the exit code of a run without an error, 0 unless
    ``take_action`` sets another. ``extra`` is the one of setup.cfg that
    provides what the command imports.
    """

    app: Any
    code = 0
    extra: str | None = None

    def get_epilog(self) -> str:
        """Nothing: cliff looks through all that is installed for it."""
        return ""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command; its exit code, or 2 with a line on stderr."""
        try:
            return int(super().run(parsed_args)) or self.code  # type: ignore[misc]
        except BrokenPipeError:
            raise  # the reader has closed the pipe; cliff handles it
        except Exception as error:
            if self.app.options.debug or errors.is_output(error):
                raise  # who started us says it, whoever writes
            if self.extra and isinstance(error, ModuleNotFoundError):
                error = errors.lacks(error.name, self.extra)
            as_json = getattr(parsed_args, "formatter", None) == "json"
            self.app.stderr.write(errors.line(error, as_json=as_json) + "\n")
            return errors.BAD_INPUT


class Command(_Base, command.Command):
    """A command without output."""


class Text(_Base, command.Command):
    """A command that writes text, or the same as JSON."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The format, as cliff's own commands have it."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "-f",
            "--format",
            dest="formatter",
            choices=("text", "json"),
            default="text",
            help="the output format, defaults to text",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write the answer."""
        text, data = self.answer(parsed_args)
        if parsed_args.formatter == "json":
            text = json.dumps(data, indent=2) + "\n"
        self.write(text)

    def write(self, text: str) -> None:
        """Put it on standard output."""
        self.app.stdout.write(text)

    def answer(self, parsed_args: argparse.Namespace) -> tuple[str, Any]:
        """For people, and for programs."""
        raise NotImplementedError


class _Formatted(_Base):
    """Mixed into a command whose output cliff formats."""

    #: What people see instead of an empty table.
    nothing = ""
    formatter: Any

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Names, data: Any
    ) -> int:
        """Programs get what cliff writes, people what ``show`` does."""
        if parsed_args.formatter == "table":
            self.show(parsed_args, column_names, data)
            return 0
        return int(super().produce_output(parsed_args, column_names, data))  # type: ignore[misc]

    def show(
        self, parsed_args: argparse.Namespace, column_names: Names, data: Any
    ) -> None:
        """Write a table of ours."""
        self.formatter = Table(self.nothing)
        super().produce_output(parsed_args, column_names, data)  # type: ignore[misc]


class Lister(_Formatted, lister.Lister):
    """A command that writes a table."""


class ShowOne(_Formatted, show.ShowOne):
    """A command that writes one thing and its properties."""
