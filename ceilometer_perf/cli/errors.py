# SPDX-License-Identifier: Apache-2.0
"""How commands fail: one line on stderr, exit code 2, no traceback."""

import argparse
import json
from typing import Any

from cliff import command, lister, show

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
            self.app.stderr.write(_line(error, as_json=as_json) + "\n")
            return BAD_INPUT


def _line(error: Exception, *, as_json: bool) -> str:
    name = getattr(error, "nova_class", None) or type(error).__name__
    message = " ".join(str(error).split())
    if as_json:
        return json.dumps({"error": name, "message": message})
    return f"{name}: {message}"


class Command(Reports, command.Command):
    """A command that writes text."""


class Lister(Reports, lister.Lister):
    """A command that writes a table."""


class ShowOne(Reports, show.ShowOne):
    """A command that writes one thing and its properties."""
