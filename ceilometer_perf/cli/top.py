# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf top``: live rates of the instances."""

import argparse
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ceilometer_perf.cli import base, errors, looking, options
from ceilometer_perf.cli.table import PIPE_WIDTH
from ceilometer_perf.cli.values import printable
from ceilometer_perf.doctor.status import Instance, Status, Watch
from ceilometer_perf.meters import (
    BANDWIDTH_TOTAL,
    IPC,
    L3_CACHE,
    SCHED_DELAY_RATIO,
    Meter,
)
from ceilometer_perf.reading import SHORTEST

#: Characters that stay on one line: of longer names, and of each verdict.
WHOLE = {"name": 24, "verdict": 12}
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
    """A large number in short form: 2.41G."""
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
    "cycles": Column("cyc/s", _rate("cpu_cycles"), count),
    "instructions": Column("ins/s", _rate("instructions"), count),
    "misses": Column("miss/s", _rate("cache_misses"), count),
    "ipc": Column("IPC", _level(IPC), ratio),
    "l3": Column("L3 B", _level(L3_CACHE), count),
    "memory": Column("mem B/s", _level(BANDWIDTH_TOTAL), count),
    "waiting": Column("wait", _level(SCHED_DELAY_RATIO), ratio),
    "coverage": Column("cover", lambda x: x.instance.coverage, ratio),
    "verdict": Column(
        "counters", lambda x: looking.summary(x.instance.verdicts)
    ),
}
NUMBERS = [name for name, column in COLUMNS.items() if column.text is not str]


@dataclass(frozen=True, slots=True)
class Shot:
    """All instances at one moment, with notes."""

    lines: Sequence[Line]
    note: str = ""


class Top(base.Lister):
    """Show live rates of this host's instances, until Ctrl-C."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The agent's options, the interval, the sort order."""
        parser = super().get_parser(prog_name)
        options.add_agent(parser)
        parser.add_argument(
            "--interval",
            type=options.seconds,
            default=2.0,
            metavar="S",
            help=f"seconds between two readings, at least {SHORTEST:g} "
            "(default: 2)",
        )
        parser.add_argument(
            "--sort",
            choices=tuple(COLUMNS),
            default="cycles",
            help="numbers sort from the highest, text from A (default: "
            "cycles)",
        )
        parser.add_argument(
            "--once",
            action="store_true",
            help="print one table after two readings, then exit",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[Cell, ...]]]:
        """Read, wait, read again: the difference, as numbers."""
        if parsed_args.interval < SHORTEST:
            raise errors.InputError(
                f"--interval {parsed_args.interval:g}: must be at least "
                f"{SHORTEST:g} s"
            )
        if parsed_args.formatter != "table" and not parsed_args.once:
            raise errors.InputError(
                f"-f {parsed_args.formatter} needs --once: it would never end"
            )
        watch = Watch(looking.parts(parsed_args), lacks={})
        self.shots = shots(watch, parsed_args.interval)
        return ("id", *COLUMNS), self._rows(parsed_args)

    def _rows(self, args: argparse.Namespace) -> Iterator[tuple[Cell, ...]]:
        with looking.quiet(looking.SILENT):
            _first, shot = next(self.shots), next(self.shots)
        for line in _sorted(shot.lines, args.sort):
            values = (column.value(line) for column in COLUMNS.values())
            yield line.instance.id, *values

    def show(
        self, parsed_args: argparse.Namespace, column_names: base.Names,
        data: Any,
    ) -> None:  # fmt: skip
        """A screen that is updated."""
        console = Console(file=self.app.stdout, highlight=False)
        if not console.is_terminal:
            console.width = PIPE_WIDTH
        with (
            contextlib.suppress(KeyboardInterrupt),
            looking.quiet(looking.SILENT),
        ):
            tables = (table(shot, parsed_args.sort) for shot in self.shots)
            _show(console, tables, once=parsed_args.once)


def shots(watch: Watch, interval: float) -> Iterator[Shot]:
    """One at once, without rates, and then one after each interval."""
    before = watch.look()
    yield Shot(
        [Line(each, {}) for each in before.instances],
        f"measuring: rates in {interval:g} s",
    )
    while True:
        time.sleep(interval)
        after = watch.look()
        yield Shot(lines(before, after), after.stale or "")
        if after.stale is None:
            before = after


def _show(console: Console, shown: Iterator[Table], *, once: bool) -> None:
    if console.is_terminal and not once:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for each in shown:
                live.update(each, refresh=True)
    else:
        next(shown)  # it has no rates
        for each in itertools.islice(shown, 1 if once else None):
            console.print(each)


def lines(before: Status, after: Status) -> list[Line]:
    """Rates of each instance whose counters did not restart."""
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


def table(shot: Shot, sort: str) -> Table:
    """The lines in order, with notes below.

    A column without any value is left out.
    """
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=Text(shot.note if shot.lines else "no instances"),
        caption_justify="left",
    )
    shown = [
        name
        for name, column in COLUMNS.items()
        if name not in NUMBERS
        or any(column.value(line) is not None for line in shot.lines)
    ]
    for name in shown:
        column = COLUMNS[name]
        texts = [column.text(column.value(line)) for line in shot.lines]
        longest = max(map(len, texts), default=0)
        made.add_column(
            column.title,
            justify="right" if name in NUMBERS else "left",
            no_wrap=name not in WHOLE,
            overflow="fold",
            min_width=min(longest, WHOLE.get(name, longest)),
        )
    for line in _sorted(shot.lines, sort):
        columns = (COLUMNS[name] for name in shown)
        made.add_row(*(Text(c.text(c.value(line))) for c in columns))
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
