# SPDX-License-Identifier: Apache-2.0
"""The operator's page of slices is true: its commands are run, in order.

By a shell, in a folder that the page calls /etc/nova. libvirt's schema is the
real one; the libvirt that is asked is its test driver, in which the instance
of the page runs.
"""

import re
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ceilometer_perf.guest import slice_metadata
from tests import warm

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "doc" / "source" / "slices.rst"
EXAMPLE = ROOT / "etc" / "slices" / "eight-gpus"
FOLDER, URI = "/etc/nova", "qemu:///system"
BLOCK = re.compile(
    r"^\.\. code-block:: console\n\n((?:(?:   .*)?\n)+)", re.MULTILINE
)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n?", re.MULTILINE)

RUNNING = """\
<domain type='test'>
  <name>instance-0000002a</name>
  <uuid>5d3c2f0e-8a41-4c57-b0f5-1f2a6b7c8d9e</uuid>
  <memory>1024</memory>
  <os><type>hvm</type></os>
</domain>
"""


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Each command with what the page shows of its output."""
    for block in BLOCK.findall(page):
        _, *parts = COMMAND.split(textwrap.dedent(block).strip("\n") + "\n")
        yield from zip(parts[::2], parts[1::2], strict=True)


class Shell:
    """Runs what the page shows, as it shows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in EXAMPLE.iterdir():
            shutil.copy(path, folder)
        host = folder / "host.xml"
        running = slice_metadata.write(RUNNING, "1of8_3")
        host.write_text(f"<node>{running}</node>")
        self.uri = f"test://{host}"
        self._commands = tempfile.TemporaryDirectory()
        self._environment = warm.for_shells(Path(self._commands.name))

    def run(self, command: str) -> str:
        ran = subprocess.run(
            ["bash", "-c", command.replace(URI, self.uri)],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines = ran.stdout.replace(str(self.folder), FOLDER).splitlines()
        return "\n".join(line.rstrip() for line in lines).strip("\n")


SHOWN = list(commands(PAGE.read_text()))


def test_all_of_it(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    for command, output in SHOWN:
        assert shell.run(command) == output.strip("\n"), command


@pytest.mark.parametrize("verb", ["generate", "tree", "validate", "render"])
def test_every_command_is_shown(verb: str) -> None:
    assert any(f"slice {verb} " in command for command, _ in SHOWN)


def test_the_page_shows_a_breach() -> None:
    outputs = "".join(output for _, output in SHOWN)
    for rule in "overlap", "outside", "missing":
        assert f"| {rule} " in outputs
