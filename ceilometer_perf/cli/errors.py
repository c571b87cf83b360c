# SPDX-License-Identifier: Apache-2.0
"""How commands fail: one line on stderr, exit code 2, no traceback."""

import argparse
import errno
import json
from collections.abc import Iterable, Sequence
from typing import Any

from cliff import command, lister, show

from ceilometer_perf.cli.values import Value, printable

BAD_INPUT = 2


class InputError(Exception):
    """The command line, or a file that it names, can't be used."""


class Reports:
    """Mixed into a cliff command, before it: its errors, reported.

    With ``-f json`` the line is ``{"error": CLASS, "message": TEXT}``. CLASS
    is the name of Nova's exception where the refusal is Nova's.
    """

    app: Any

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command; its exit code, or 2 with a line on stderr."""
        try:
            return int(super().run(parsed_args))  # type: ignore[misc]
        except BrokenPipeError:
            raise  # whoever reads has seen enough; cliff knows what to do
        except Exception as error:
            if self.app.options.debug:
                raise
            as_json = getattr(parsed_args, "formatter", None) == "json"
            self.app.stderr.write(line(error, as_json=as_json) + "\n")
            return BAD_INPUT


def line(error: Exception, *, as_json: bool = False) -> str:
    """How a command ends, in one line that is fit for a terminal."""
    name = getattr(error, "nova_class", None) or type(error).__name__
    message = printable(" ".join(_told(error).split()))
    if as_json:
        return json.dumps({"error": name, "message": message})
    return f"{name}: {message}"


def _told(error: Exception) -> str:
    """What happened; only what a command writes to has no name."""
    if (
        isinstance(error, OSError)
        and error.errno in _FULL
        and error.filename is None
    ):
        return f"standard output: {error.strerror}"
    if isinstance(error, UnicodeEncodeError):
        return (
            f"standard output takes no {error.object[error.start]!a} in "
            f"{error.encoding}: set PYTHONIOENCODING=utf-8, or use -f json"
        )
    return str(error) or "no more is known"


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class Command(Reports, command.Command):
    """A command that writes text."""


class Lister(Reports, lister.Lister):
    """A command that writes a table."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
    ) -> int:
        """What stands in a table can't move the cursor of who reads it."""
        if parsed_args.formatter == "table":
            data = [
                [Value(c) if isinstance(c, str) else c for c in row]
                for row in data
            ]
        return int(super().produce_output(parsed_args, column_names, data))


class ShowOne(Reports, show.ShowOne):
    """A command that writes one thing and its properties."""
