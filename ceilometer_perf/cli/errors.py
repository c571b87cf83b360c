# SPDX-License-Identifier: Apache-2.0
"""How commands fail: one line on stderr, exit code 2, no traceback."""

import errno
import json

from ceilometer_perf.cli.values import printable

BAD_INPUT = 2


class InputError(Exception):
    """The command line, or a file that it names, can't be used."""


def lacks(module: str | None, extra: str) -> InputError:
    """A command whose imports are missing."""
    return InputError(
        f"this command needs {module}, which is not installed: pip install "
        f"'ceilometer-perf[{extra}]'"
    )


def line(error: Exception, *, as_json: bool = False) -> str:
    """The error in one line that is safe for a terminal.

    As JSON it is ``{"error": CLASS, "message": TEXT}``. CLASS is the name of
    Nova's exception if Nova would refuse this. People get no class.
    """
    name = getattr(error, "nova_class", None) or type(error).__name__
    message = printable(" ".join(_told(error).split()))
    if as_json:
        return json.dumps({"error": name, "message": message})
    return f"ceilometer-perf: error: {message}"


def _told(error: Exception) -> str:
    """What happened."""
    if is_output(error):
        return f"standard output: {error.args[1]}"
    if isinstance(error, UnicodeEncodeError):
        return (
            f"standard output cannot encode {error.object[error.start]!a} "
            f"in {error.encoding}: set PYTHONIOENCODING=utf-8 or use -f json"
        )
    return str(error) or type(error).__name__


def is_output(error: object) -> bool:
    """Whether standard output is full: an error without a file's name."""
    return (
        isinstance(error, OSError)
        and error.errno in _FULL
        and error.filename is None
    )


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
