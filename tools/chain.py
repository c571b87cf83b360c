# SPDX-License-Identifier: Apache-2.0
"""Every meter from libvirt to Gnocchi and to Prometheus."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

import libvirt
from rich import box
from rich.console import Console
from rich.table import Table

from tests.chain.chain import Chain
from tests.chain.check import COVERAGE_PRECISION, Row, check, missing
from tests.chain.errors import ChainError
from tests.lab import LabError
from tools.progress import Step, stderr, steps
from tools.usage import chain as usage
from tools.usage.chain import PARTS

WIDTH = 132  # where stdout is no terminal


def main() -> int:
    """Run the chain and print what it comes to."""
    arguments = usage.parser().parse_args()
    # libvirt prints its errors by itself, in addition to raising them.
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        with steps() as step:
            rows, emulated = _run(arguments, step)
    except (ChainError, LabError) as exc:
        stderr.print(f"chain.sh: {exc}", markup=False)
        return 2
    absent = missing(rows)
    equal = not absent and all(row.equal for row in rows)
    if arguments.json:
        print(json.dumps(_result(rows, emulated, equal), indent=2))
    else:
        _print(rows, emulated, arguments.without)
    for name in absent:
        stderr.print(f"chain.sh: {name}: no guest has a value", markup=False)
    for row in rows:
        for what in row.amiss:
            stderr.print(
                f"chain.sh: {row.meter} of {row.instance}: {what}",
                markup=False,
            )
    return 0 if equal else 1


def _run(
    arguments: argparse.Namespace, step: Step
) -> tuple[list[Row], tuple[str, ...]]:
    parts = {part: part != arguments.without for part in PARTS}
    with Chain(**parts, interval=arguments.interval, step=step) as chain:
        step(f"Polling {arguments.cycles} times")
        chain.wait_for_cycles(arguments.cycles)
        chain.stop_polling()
        step("Comparing")
        return check(chain), chain.lab.emulates


def _result(
    rows: Sequence[Row], emulated: Sequence[str], equal: bool
) -> dict[str, Any]:
    return {
        "equal": equal,
        "emulated": list(emulated),
        "meters": [
            {**dataclasses.asdict(row), "equal": row.equal} for row in rows
        ],
    }


def _print(
    rows: Sequence[Row], emulated: Sequence[str], without: str | None
) -> None:
    console = Console(
        highlight=False, width=None if sys.stdout.isatty() else WIDTH
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Meter", no_wrap=True)
    table.add_column("Instance", no_wrap=True)
    for name in ("libvirt", *(p for p in PARTS if p != without)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("growth", justify="right", no_wrap=True)
    table.add_column("equal")
    for row in rows:
        values = {part: getattr(row, part) for part in PARTS}
        values.pop(without or "", None)
        table.add_row(
            row.meter,
            row.instance,
            _number(row.libvirt),
            *map(_number, values.values()),
            _number(row.rate.gnocchi if row.rate else None),
            "yes" if row.equal else "NO",
        )
    console.print(table)
    samples = sum(row.samples for row in rows)
    equal = sum(row.equal for row in rows)
    console.print(
        f"{samples} samples compared; {equal} of {len(rows)} series equal. "
        "Growth is Gnocchi's rate:mean of the last minute; of coverage, "
        f"equal means within {COVERAGE_PRECISION}."
    )
    for what in emulated:
        console.print(f"Emulated: {what}", markup=False)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}"
