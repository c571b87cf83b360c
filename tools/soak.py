# SPDX-License-Identifier: Apache-2.0
"""Run the scenarios that break things under the agent."""

import contextlib
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import libvirt
import pytest
from rich.console import Console
from rich.table import Table

from tests.lab import Lab, LabError
from tests.soak.row import Row, Run
from tests.soak.scenarios import SCENARIOS
from tests.soak.what import WHAT
from tools.progress import Step, stderr, steps
from tools.usage import soak as usage

PROPERTIES = ["-q", "-m", "hypothesis", "--hypothesis-profile=soak", "tests"]


def main() -> int:
    """Run the scenarios and print a table."""
    arguments = usage.parser().parse_args()
    if arguments.properties:
        return pytest.main(PROPERTIES)
    # libvirt prints its errors by itself, in addition to raising them.
    libvirt.registerErrorHandler(lambda *_: None, None)
    rows = {}
    try:
        # Where Ceilometer logs to stdout, that is for the figures.
        with steps() as step, contextlib.redirect_stdout(sys.stderr):
            for name in arguments.scenario:
                rows[name] = _run(name, arguments.short, step)
    except LabError as exc:
        stderr.print(f"soak.sh: {exc}", markup=False)
        return 2
    if arguments.json:
        result = {name: dataclasses.asdict(row) for name, row in rows.items()}
        print(json.dumps(result, indent=2))
    else:
        _print(rows)
    for name, row in rows.items():
        for what in row.amiss:
            stderr.print(f"soak.sh: {name}: {what}", markup=False)
    return 1 if any(row.amiss for row in rows.values()) else 0


def _run(name: str, short: bool, step: Step) -> Row:
    scenario = SCENARIOS[name]
    step(f"Scenario {name}, {WHAT[name]}")
    with (
        tempfile.TemporaryDirectory(prefix="ceilometer-perf-soak-") as folder,
        Lab(fake_pmu=True) as lab,
    ):
        run = Run(lab, Path(folder) / "agent", step)
        return scenario.short(run) if short else scenario.long(run)


def _print(rows: dict[str, Row]) -> None:
    table = Table(
        "Scenario", "Fault", "What happened", "Samples", "Lost", "Untrue",
        "RSS, MiB", "Threads", "Descriptors", "How",
    )  # fmt: skip
    for name, row in rows.items():
        table.add_row(name, *map(str, _cells(row)))
    Console(highlight=False).print(table)


def _cells(row: Row) -> list[Any]:
    before, after = row.before, row.after
    return [
        row.fault,
        row.happened,
        row.samples,
        row.lost,
        row.untrue,
        f"{before.rss_kib / 1024:.0f} → {after.rss_kib / 1024:.0f}",
        f"{before.threads} → {after.threads}",
        f"{before.descriptors} → {after.descriptors}",
        row.how,
    ]
