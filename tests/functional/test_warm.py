# SPDX-License-Identifier: Apache-2.0
"""A warm command is what the installed one is, but for its start."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import warm
from tests.functional.operator import COMMAND


@pytest.mark.parametrize(
    "words",
    [("meters", "-f", "json"), ("meters", "--help"), ("no-such-command",)],
)
def test_says_and_ends_as_the_installed_one(words: tuple[str, ...]) -> None:
    ours = warm.run([COMMAND, *words])
    theirs = subprocess.run([COMMAND, *words], capture_output=True, text=True)
    assert ours.returncode == theirs.returncode
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)


def test_has_its_own_environment_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.conf").write_text("[perf]\nlibvirt_timeout = soon\n")
    words = ("status", "--config-file", "here.conf")
    ran = warm.run(
        [COMMAND, *words], environment={**os.environ, "COLUMNS": "40"}
    )
    assert ran.returncode == 2
    assert "libvirt_timeout" in ran.stderr


def test_can_be_waited_for_and_killed(tmp_path: Path) -> None:
    config = tmp_path / "ceilometer.conf"
    config.write_text("[DEFAULT]\nlibvirt_uri = test:///default\n")
    words = ("top", "--interval", "60", "--config-file", str(config))
    with (tmp_path / "out").open("w") as out:
        process = warm.start([COMMAND, *words], stdout=out, stderr=out)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()
