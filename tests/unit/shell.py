# SPDX-License-Identifier: Apache-2.0
"""Commands as a shell sees them, without a process for each."""

import contextlib
import dataclasses
import io
import logging
import os
from unittest import mock

from ceilometer_perf.cli.app import main
from ceilometer_perf.cli.table import PIPE_WIDTH


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


def run(*argv: str) -> Ran:
    """Run ``ceilometer-perf``; never with a traceback."""
    out, err = io.StringIO(), io.StringIO()
    # The app adds a handler to the root logger for each run.
    handlers = list(logging.root.handlers)
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        # As wide as a pipe's, whatever terminal the tests run in.
        mock.patch.dict(os.environ, COLUMNS=str(PIPE_WIDTH)),
    ):
        try:
            code = main(list(argv))
        except SystemExit as stop:  # argparse
            code = int(str(stop.code))
        finally:
            logging.root.handlers[:] = handlers
    assert "Traceback" not in err.getvalue()
    return Ran(code, out.getvalue(), err.getvalue())
