# SPDX-License-Identifier: Apache-2.0
"""What an operator has: the installed command, and an agent's files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests import warm
from tests.lab import Lab
from tests.unit.shell import Ran

COMMAND = Path(sys.executable).with_name("ceilometer-perf")
ETC = Path(__file__).parents[2] / "etc" / "ceilometer"


def run(*argv: str, **environment: str) -> Ran:
    """With an environment of its own, what is imported is the subject."""
    if environment:
        done = subprocess.run(
            [COMMAND, *argv], capture_output=True, text=True, timeout=120,
            env={**os.environ, **environment},
        )  # fmt: skip
    else:
        done = warm.run([COMMAND, *argv])
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


class Files:
    """What the agent of a lab reads."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder = folder
        self._lab = lab
        for name in "polling.yaml", "pipeline.yaml":
            shutil.copy(ETC / name, folder)
        self.nova_conf("task_clock, page_faults")
        self.conf()

    def conf(self, perf: str = "", uri: str = "") -> None:
        self.write(
            "ceilometer.conf",
            f"[DEFAULT]\nlibvirt_uri = {uri or self._lab.uri_ro}\n"
            f"[perf]\nqemu_run_dir = {self._lab.run_dir}/qemu\n"
            f"counters = libvirt\n{perf}\n",
        )

    def nova_conf(self, events: str) -> None:
        self.write("nova.conf", f"[libvirt]\nenabled_perf_events = {events}\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    @property
    def options(self) -> tuple[str, ...]:
        return "--config-file", f"{self.folder}/ceilometer.conf"
