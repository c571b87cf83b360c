# SPDX-License-Identifier: Apache-2.0
"""Samples of real guests, out of Ceilometer's own services."""

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oslo_utils import timeutils
from rich import box
from rich.console import Console, ConsoleRenderable
from rich.table import Table

from ceilometer_perf.meters import CACHE, METERS, PERF_KEYS
from tests.lab import Guest, Lab, LabError
from tests.lab.resctrl.hardware import INTEL
from tools import agent, demo_noisy, demo_restart
from tools.progress import Step, stderr, steps
from tools.usage import demo as usage

GUESTS_PER_TABLE = 3
SETTLING = 0.5  # seconds for the last cycle's remaining meters to come
PATIENCE = 90.0  # seconds beyond the cycles' own time until it gives up

Sample = dict[str, Any]
Series = dict[tuple[str, str], list[Sample]]  # by (instance name, meter)


@dataclass
class Polled:
    """Samples of the first cycles, and what the other parts have shown."""

    samples: list[Sample]
    more: list[Sample] = field(default_factory=list)
    shown: list[ConsoleRenderable | str] = field(default_factory=list)
    complete: bool = True

    def add(
        self, shown: ConsoleRenderable | str, samples: list[Sample]
    ) -> None:
        """A part; nothing of one that did not come in time."""
        self.complete = self.complete and bool(samples)
        if samples:
            self.shown.append(shown)
            self.more += samples


def main() -> int:
    """Run the demo; 0 when every cycle's samples came, 1 when none did."""
    arguments = usage.parser().parse_args()
    try:
        with steps() as step, Lab(fake_pmu=True, resctrl=INTEL) as lab:
            emulated = lab.emulates
            polled = _poll(lab, arguments, step)
            if not polled.samples:
                _explain(lab.folder / "ceilometer.log")
                return 1
    except LabError as exc:
        stderr.print(f"demo.sh: {exc}", markup=False)
        return 2
    if arguments.json:
        _print_json(polled.samples + polled.more)
        for what in emulated:
            stderr.print(f"Emulated: {what}", markup=False)
    else:
        _print_tables(polled, emulated)
    if not polled.complete:
        stderr.print("demo.sh: samples are missing (see above)")
    return 0 if polled.complete else 1


def _poll(lab: Lab, arguments: argparse.Namespace, step: Step) -> Polled:
    """The samples of the first N cycles.

    And what libvirtd's death then does to the first guest, and a neighbour.
    """
    guests = [
        Guest(f"{kind}-{number}", kind)
        for number, kind in zip(
            range(1, arguments.guests + 1), itertools.cycle(usage.KINDS)
        )
    ]
    step(f"Starting {len(guests)} guests")
    lab.start_all(guests)
    # Every guest has every counter, and from the second cycle on what is read
    # in caches and at the memory; what is computed needs CPU time too.
    times = {
        meter.name: arguments.cycles - (meter in CACHE)
        for meter in METERS
        if meter.key in PERF_KEYS or meter in CACHE
    }
    expected = len(guests) * sum(times.values())
    deadline = (
        time.monotonic() + arguments.cycles * arguments.interval + PATIENCE
    )
    with (
        # Some library of the services prints to stdout, which is ours.
        (lab.folder / "stdout").open("w") as theirs,
        contextlib.redirect_stdout(theirs),
        agent.running(lab, arguments.interval) as written,
    ):
        while True:
            series = _series(written.read())
            came = sum(
                min(len(samples), times.get(meter, 0))
                for (_, meter), samples in series.items()
            )
            step(f"Polling: {came} of {expected} samples")
            if came == expected or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        time.sleep(SETTLING)
        polled = Polled(_first_cycles(written.read(), arguments.cycles))
        polled.complete = came == expected
        rows, own = demo_restart.show(lab, guests[0], written, step)
        polled.add(demo_restart.table(rows), own)
        if arguments.noisy:
            polled.add(
                *demo_noisy.show(
                    lab, guests[0], written, arguments.interval, step
                )
            )
    return polled


def _series(samples: list[Sample]) -> Series:
    series: Series = defaultdict(list)
    for sample in samples:
        name = sample["resource_metadata"]["display_name"]
        series[name, sample["counter_name"]].append(sample)
    return series


def _first_cycles(samples: list[Sample], cycles: int) -> list[Sample]:
    """What came before the demo had seen enough; the agent polls on."""
    return [
        sample
        for series in _series(samples).values()
        for sample in series[:cycles]
    ]


def _figure(series: list[Sample]) -> str:
    """How fast a counter grew, or the last value of a level."""
    if not series:
        return "-"
    if series[0]["counter_type"] == "cumulative":
        one = len(series) == 1  # of an agent that is slow
        return "-" if one else f"{_growth_per_second(series):,.0f}"
    return f"{series[-1]['counter_volume']:,.3f}"


def _growth_per_second(series: list[Sample]) -> float:
    first, last = series[0], series[-1]
    seconds = timeutils.delta_seconds(
        timeutils.parse_isotime(first["timestamp"]),
        timeutils.parse_isotime(last["timestamp"]),
    )
    growth: float = last["counter_volume"] - first["counter_volume"]
    return growth / seconds


def _print_json(samples: list[Sample]) -> None:
    for sample in sorted(samples, key=lambda each: each["timestamp"]):
        print(json.dumps(sample))


def _print_tables(polled: Polled, emulated: tuple[str, ...]) -> None:
    # Whole names and numbers also where the width is not a terminal's.
    console = Console(
        highlight=False, width=None if sys.stdout.isatty() else 120
    )
    series = _series(polled.samples)
    names = sorted({name for name, _ in series}, key=_by_number)
    for start in range(0, len(names), GUESTS_PER_TABLE):
        shown = names[start : start + GUESTS_PER_TABLE]
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("Meter", no_wrap=True)
        table.add_column("Unit", no_wrap=True)
        for name in shown:
            table.add_column(name, justify="right", no_wrap=True)
        for meter in METERS:
            per = "/s" if meter.type == "cumulative" else ""
            table.add_row(
                meter.name,
                f"{meter.unit}{per}",
                *(_figure(series[name, meter.name]) for name in shown),
            )
        console.print(table)
    for each in polled.shown:
        console.print(each, markup=False)
    console.print(
        f"{len(polled.samples + polled.more)} samples of {len(names)} "
        "instances came through Ceilometer's polling and notification "
        "services."
    )
    for what in emulated:
        console.print(f"Emulated: {what}", markup=False)


def _by_number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _explain(log: Path) -> None:
    stderr.print("demo.sh: no sample came. The end of Ceilometer's log:")
    lines = log.read_text().splitlines()[-20:] if log.exists() else []
    stderr.print("\n".join(lines), markup=False)
