# SPDX-License-Identifier: Apache-2.0
"""The companion is pure: it knows no telemetry and no connection."""

import ast
import pathlib
from collections.abc import Iterator

from ceilometer_perf import guest

ROOM = pathlib.Path(guest.__file__).parent
KNOWN = {"lxml", "oslo_config", "oslo_log", "oslo_utils"}


def imported(path: pathlib.Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_it_knows_a_few_libraries_only() -> None:
    modules = {m for path in ROOM.rglob("*.py") for m in imported(path)}
    ours = {m for m in modules if m.startswith("ceilometer_perf")}
    third = {m.partition(".")[0] for m in modules - ours}
    assert not {"libvirt", "ceilometer", "cliff", "nova"} & third
    assert third >= KNOWN
