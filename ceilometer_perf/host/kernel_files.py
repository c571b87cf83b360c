# SPDX-License-Identifier: Apache-2.0
"""Files in which a kernel says one thing: /proc, /sys.

None stands for a file that isn't there, can't be read, or says something
else. The privileged helper reads them, too: nothing else is imported.
"""

from pathlib import Path


def text(path: Path) -> str | None:
    """What it says, without the line break."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def number(path: Path) -> int | None:
    """A number, in decimal."""
    try:
        return int(text(path) or "")
    except ValueError:
        return None
