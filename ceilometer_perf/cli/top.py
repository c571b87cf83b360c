# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf top``: what instances do right now."""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ceilometer_perf.cli import base, errors, looking, options
from ceilometer_perf.cli.values import printable
from ceilometer_perf.doctor.status import Instance, Status, Watch
from ceilometer_perf.meters import BANDWIDTH_TOTAL, IPC, L3_CACHE, Meter
from ceilometer_perf.reading import SHORTEST

PIPE_WIDTH = 160  # columns where there is no terminal to ask
STEP = 1000.0
ROUNDED_UP = 999.5  # what three digits show as 1000

Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Line:
    """An instance, and how fast its counters grow, by their keys."""

    instance: Instance
    rates: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, its value of a line, and that as text."""

    title: str
    value: Callable[[Line], Cell]
    text: Callable[[Cell], str] = str


def count(value: Cell) -> str:
    """A large number in few letters: 2.41G."""
    if not isinstance(value, int | float):
        return "-"
    for unit in ("", "k", "M", "G", "T"):
        if value < ROUNDED_UP:
            return f"{value:.3g}{unit}"
        value /= STEP
    return f"{value:.0f}P"


def ratio(value: Cell) -> str:
    """A small number."""
    return f"{value:.3f}" if isinstance(value, float) else "-"


def _level(meter: Meter) -> Callable[[Line], Cell]:
    return lambda line: line.instance.values.get(meter.key)


def _rate(event: str) -> Callable[[Line], Cell]:
    return lambda line: line.rates.get(f"perf.{event}")


COLUMNS = {
    "name": Column("name", lambda x: printable(x.instance.name)),
    "state": Column("state", lambda x: x.instance.state),
    "cycles": Column("cycles/s", _rate("cpu_cycles"), count),
    "instructions": Column("instructions/s", _rate("instructions"), count),
    "misses": Column("cache misses/s", _rate("cache_misses"), count),
    "ipc": Column("IPC", _level(IPC), ratio),
    "l3": Column("L3 B", _level(L3_CACHE), count),
    "memory": Column("memory B/s", _level(BANDWIDTH_TOTAL), count),
    "coverage": Column("coverage", lambda x: x.instance.coverage, ratio),
    "verdict": Column(
        "counters", lambda x: looking.summary(x.instance.verdicts)
    ),
}
NUMBERS = (
    "cycles",
    "instructions",
    "misses",
    "ipc",
    "l3",
    "memory",
    "coverage",
)


class Top(base.Command):
    """Show what the instances of this host do, until Ctrl-C."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The agent's options, how often, in which order."""
        parser = super().get_parser(prog_name)
        options.add_agent(parser)
        parser.add_argument(
            "--interval",
            type=options.seconds,
            default=2.0,
            metavar="S",
            help=f"seconds between two looks, {SHORTEST:g} at least "
            "(default: 2)",
        )
        parser.add_argument(
            "--sort",
            choices=tuple(COLUMNS),
            default="cycles",
            help="numbers are sorted from the highest, words from A "
            "(default: cycles)",
        )
        parser.add_argument(
            "--once",
            action="store_true",
            help="print one table after two looks, and end",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Look, wait, look again, show the difference."""
        if parsed_args.interval < SHORTEST:
            raise errors.InputError(
                f"--interval {parsed_args.interval:g}: two readings closer "
                f"than {SHORTEST:g} s say nothing"
            )
        console = Console(file=self.app.stdout, highlight=False)
        if not console.is_terminal:
            console.width = PIPE_WIDTH
        watch = looking.watch(looking.parts(parsed_args), lacks={})
        with (
            contextlib.suppress(KeyboardInterrupt),
            looking.quiet(looking.SILENT),
        ):
            _show(console, tables(watch, parsed_args), once=parsed_args.once)


def tables(watch: Watch, args: argparse.Namespace) -> Iterable[Table]:
    """A table for each interval, for ever."""
    before = watch.look()
    while True:
        time.sleep(args.interval)
        after = watch.look()
        yield table(lines(before, after), args.sort, after.stale)
        if after.stale is None:
            before = after


def _show(console: Console, shown: Iterable[Table], *, once: bool) -> None:
    if once:
        console.print(next(iter(shown)))
    elif console.is_terminal:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for each in shown:
                live.update(each, refresh=True)
    else:
        for each in shown:
            console.print(each)


def lines(before: Status, after: Status) -> list[Line]:
    """How fast each instance counts, where it went on counting."""
    seconds = after.taken_at - before.taken_at
    earlier = {instance.id: instance for instance in before.instances}
    return [
        Line(each, _rates(earlier.get(each.id), each, seconds))
        for each in after.instances
    ]


def _rates(
    before: Instance | None, after: Instance, seconds: float
) -> Mapping[str, float]:
    if before is None or before.since != after.since or seconds <= 0:
        return {}
    return {
        key: (value - before.values[key]) / seconds
        for key, value in after.values.items()
        if key in before.values
    }


def table(lines: Iterable[Line], sort: str, stale: str | None) -> Table:
    """The lines in order, with what is amiss below."""
    made = Table(caption=Text(stale or "", style="red"))
    for name, column in COLUMNS.items():
        made.add_column(
            column.title, justify="right" if name in NUMBERS else "left"
        )
    for line in _sorted(lines, sort):
        made.add_row(*(Text(c.text(c.value(line))) for c in COLUMNS.values()))
    return made


def _sorted(lines: Iterable[Line], sort: str) -> list[Line]:
    value = COLUMNS[sort].value
    by_name = sorted(lines, key=lambda line: line.instance.name)
    if sort in NUMBERS:
        return sorted(by_name, key=lambda x: _number(value(x)), reverse=True)
    return sorted(by_name, key=lambda x: str(value(x)))


def _number(value: Cell) -> float:
    """For sorting: a missing value comes after the smallest number."""
    return value if isinstance(value, int | float) else -1.0
