# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf neighbours``: who slows whom down, and through what."""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from ceilometer_perf import files
from ceilometer_perf import options as perf_options
from ceilometer_perf.cli import base, errors, options
from ceilometer_perf.cli.table import Table
from ceilometer_perf.cli.values import printable
from ceilometer_perf.doctor import agent_conf
from ceilometer_perf.doctor.finding import listed
from ceilometer_perf.neighbours import kept
from ceilometer_perf.neighbours.judge import LONGEST, OTHER
from ceilometer_perf.neighbours.kept import Said
from ceilometer_perf.plural import number_of
from ceilometer_perf.reading import SHORTEST, utc_now

#: A row for each instance, or for each cause of a victim's; for programs.
COLUMNS = (
    "id",
    "name",
    "verdict",
    "cause",
    "culprit",
    "culprit_name",
    "loss",
    "correlation",
    "cycles",
    "evidence",
    "untold",
    "at",
)

_MEGA = 1e-6
_GIGA = 1e-9
#: What moved, for people: the name in the evidence, what it is, its unit.
_NUMBERS = (
    ("mpki", "misses per 1,000 instructions", 1.0, ""),
    ("occupancy", "holds", _MEGA, " MB"),
    ("bandwidth", "memory of all", _GIGA, " GB/s"),
    ("waited", "waits for", 1.0, " CPUs"),
)
_TAKES = {
    "llc": (_MEGA, " MB"),
    "bandwidth": (_GIGA, " GB/s"),
    "smt": (1.0, " CPUs beside it"),
    "cpu": (1.0, " of its CPUs"),
}

_Row = tuple[Any, ...]


class Show(base.Lister):
    """Show who slows whom down on this host, as the agent has found it."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The agent's configuration, and whether to go on."""
        parser = super().get_parser(prog_name)
        options.add_config_file(parser)
        parser.add_argument(
            "--watch",
            nargs="?",
            const=10.0,
            type=options.seconds,
            metavar="S",
            help="show it again after so many seconds, until Ctrl-C "
            "(default: 10)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[_Row]]:
        """Read what the agent has kept, for programs."""
        watch = parsed_args.watch
        if watch is not None and watch < SHORTEST:
            raise errors.InputError(
                f"--watch {watch:g}: must be at least {SHORTEST:g} s"
            )
        if watch is not None and parsed_args.formatter != "table":
            raise errors.InputError(
                f"-f {parsed_args.formatter} goes without --watch: it would "
                "never end"
            )
        conf = agent_conf.read(parsed_args.config_file)
        self.path = Path(perf_options.get(conf, "neighbours_file"))
        self.said = _read(self.path)
        return COLUMNS, rows(self.said)

    def show(
        self, parsed_args: argparse.Namespace, column_names: base.Names,
        data: Any,
    ) -> None:  # fmt: skip
        """A table, once or again and again."""
        self._write(parsed_args, self.said)
        console = Console(file=self.app.stdout)
        while parsed_args.watch is not None:
            time.sleep(parsed_args.watch)
            told = _read(self.path)
            console.clear()
            self._write(parsed_args, told)

    def _write(self, parsed_args: argparse.Namespace, told: Said) -> None:
        out = self.app.stdout
        out.write(f"{headline(told)}\n")
        Table("no instances").emit_list(
            ("instance", "verdict", "by", "through", "lost", "surely"),
            [_shown(row) for row in rows(told)],
            out,
            parsed_args,
        )
        out.writelines(f"{line}\n" for line in below(told))


def _read(path: Path) -> Said:
    try:
        return _shows(kept.said(path))
    except FileNotFoundError:
        raise errors.InputError(
            f"{path}: does not exist; the agent writes it in each "
            "cycle in which it polls perf.neighbour.* ([perf] "
            "neighbours_file; 'ceilometer-perf doctor' checks polling.yaml)"
        ) from None
    except (OSError, ValueError) as exc:
        raise errors.InputError(f"{path}: {files.why(exc)}") from exc


def _shows(told: Said) -> Said:
    """The same, if it can be shown: another version's may be different.

    :raises ValueError: it can't.
    """
    try:
        _ = headline(told), [_shown(row) for row in rows(told)], [*below(told)]
    except (TypeError, LookupError, AttributeError) as exc:
        raise ValueError(OTHER) from exc
    return told


def headline(told: Said) -> str:
    """When it was found, and how many there are of each verdict."""
    age = max(timedelta(0), utc_now() - told.at)
    seconds = round(age.total_seconds())
    verdicts = [row[2] for row in rows(told)]
    victims = len({each.victim for each in told.found.interferences})
    text = (
        f"{number_of(len(told.names), 'instance')} {seconds} s ago: "
        f"{number_of(victims, 'victim')}, "
        f"{verdicts.count('unknown')} unknown"
    )
    if age.total_seconds() > LONGEST:
        text += "; out of date: does the agent run, and poll perf.neighbour.*?"
    return text


def rows(told: Said) -> Iterator[_Row]:
    """Under COLUMNS: victims first, by what they lose."""
    found = told.found
    for each in sorted(found.interferences, key=lambda i: -i.loss):
        yield (
            each.victim,
            told.names.get(each.victim, each.victim),
            "victim",
            each.cause,
            each.culprit,
            told.names.get(each.culprit, each.culprit),
            each.loss,
            each.correlation,
            each.cycles,
            dict(each.numbers()),
            found.untold.get(each.victim, {}),
            told.at.isoformat(),
        )
    victims = {each.victim for each in found.interferences}
    for uuid, name in sorted(told.names.items(), key=lambda item: item[1]):
        if uuid not in victims:
            verdict = "usual" if uuid in found.judged else "unknown"
            untold = found.untold.get(uuid, {})
            nothing = (None,) * 6
            yield (
                uuid, name, verdict, *nothing, {}, untold,
                told.at.isoformat(),
            )  # fmt: skip


def _shown(row: _Row) -> _Row:
    """For people."""
    of = dict(zip(COLUMNS, row, strict=True))
    return (
        f"{of['name']}\n{of['id']}",
        of["verdict"],
        of["culprit_name"] or "-",
        of["cause"] or "-",
        "-" if of["loss"] is None else f"{of['loss']:.0%}",
        "-" if of["correlation"] is None else f"{of['correlation']:.2f}",
    )


def below(told: Said) -> Iterator[str]:
    """A line for each victim, and for each reason why nothing is said."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in rows(told):
        of = dict(zip(COLUMNS, row, strict=True))
        name = printable(of["name"])
        if of["verdict"] == "victim":
            culprit = printable(of["culprit_name"])
            moved = ", ".join(evidence(of["cause"], of["evidence"]))
            yield f"{name}, by {culprit}: {moved}"
        for cause, why in of["untold"].items():
            reasons[f"{cause}: {why}"].append(name)
    for reason, names in reasons.items():
        yield f"Not known: {printable(reason)} ({listed(names)})"


def evidence(cause: str, numbers: Mapping[str, float]) -> Iterator[str]:
    """What moved, from what it was to what it is."""
    for name, what, times, unit in _NUMBERS:
        if {name, f"{name}_before"} <= numbers.keys():
            before = numbers[f"{name}_before"] * times
            yield f"{what} {before:.3g} -> {numbers[name] * times:.3g}{unit}"
    times, unit = _TAKES[cause]
    before, since = numbers["culprit_before"], numbers["culprit"]
    yield f"culprit takes {before * times:.3g} -> {since * times:.3g}{unit}"
