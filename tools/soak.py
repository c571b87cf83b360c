# SPDX-License-Identifier: Apache-2.0
"""Break things under the agent for minutes, and count what that costs.

Each scenario has a lab of its own: a private libvirtd, real QEMU guests. In
all but 'steady' the real ceilometer-polling runs, with a cycle a second,
the shortest that it can do; 'steady' runs our discovery and pollsters in this
process, one cycle after the other, to get at thousands of them.

A sample of a counter is lost where an instance's next one came a cycle too
late, time apart in which the guest was off or its counters rightly withheld.
It is untrue where a clock differs by a tenth from the CPU time that /proc
shows for the QEMU process, where a counter fell though its `since` says that
it went on, and where it is of an instance that was gone.

The exit code is 1 if anything is amiss.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import libvirt
from rich.console import Console
from rich.table import Table

from tests.lab import Lab, LabError
from tests.soak.row import Row, Run
from tests.soak.scenarios import SCENARIOS
from tools.progress import Step, stderr, steps


def main() -> int:
    """Run the scenarios and print a table."""
    arguments = _arguments()
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
    step(f"Scenario {name}, {scenario.what}")
    with (
        tempfile.TemporaryDirectory(prefix="ceilometer-perf-soak-") as folder,
        Lab(fake_pmu=True) as lab,
    ):
        run = Run(lab, Path(folder) / "agent", step)
        return scenario.short(run) if short else scenario.long(run)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soak.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            ["scenarios:", *(f"  {n:8}{s.what}" for n, s in SCENARIOS.items())]
        ),
    )  # fmt: skip
    parser.add_argument(
        "--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS),
        metavar="NAME", help="run only these (default: all, about 25 minutes)",
    )  # fmt: skip
    parser.add_argument("--short", action="store_true",
                        help="seconds of each, as in the tests")  # fmt: skip
    parser.add_argument("--json", action="store_true",
                        help="JSON on stdout")  # fmt: skip
    return parser.parse_args()


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


if __name__ == "__main__":
    sys.exit(main())
