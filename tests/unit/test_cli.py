# SPDX-License-Identifier: Apache-2.0
"""What all commands share."""

import subprocess
import sys

import pytest

from ceilometer_perf.cli import app


def test_no_command_is_help_and_not_a_shell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.main([]) == 0
    assert "host probe" in capsys.readouterr().out


def test_an_unknown_command_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.main(["bogus"]) == 2
    assert "bogus" in capsys.readouterr().out  # where cliff says it


def test_libraries_say_nothing_on_stderr() -> None:
    """Each command is loaded; what warns when it is imported shows here."""
    script = (
        "from importlib.metadata import entry_points\n"
        "for command in entry_points(group='ceilometer_perf.cli'):\n"
        "    command.load()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
