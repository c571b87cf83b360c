# SPDX-License-Identifier: Apache-2.0
"""Tables that fit the terminal and contain no control characters."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from cliff.columns import FormattableColumn
from cliff.formatters.table import TableFormatter

from ceilometer_perf.cli.values import Value

PIPE_WIDTH = 100  # columns if stdout is not a terminal

Row = Sequence[Any]


class Table(TableFormatter):
    """cliff's table, with cells wrapped between words."""

    def __init__(self, nothing: str = "") -> None:
        """``nothing``: what to write if there are no rows."""
        self._nothing = nothing

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Row],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """A row for each thing."""
        rows = fit(column_names, data, _width(parsed_args))
        if self._nothing and not rows:
            stdout.write(f"{self._nothing}\n")
        else:
            super().emit_list(column_names, rows, stdout, parsed_args)

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Row,
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """A row for each property."""
        fields = zip(column_names, data, strict=True)
        rows = fit(("Field", "Value"), fields, _width(parsed_args))
        super().emit_one(
            column_names, [value for _, value in rows], stdout, parsed_args
        )


def _width(args: argparse.Namespace) -> int:
    """In characters."""
    if args.max_width > 0:
        return int(args.max_width)
    return shutil.get_terminal_size((PIPE_WIDTH, 0)).columns


def fit(titles: Sequence[str], rows: Iterable[Row], width: int) -> list[Row]:
    """The cells, wrapped between words if the table would be too wide.

    The widest columns give way first. Names and ids stay whole, so that a
    table which has no other words is wider than ``width``.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    columns = [
        [title, *map(str, column)]
        for title, column in zip(
            titles, zip(*cells, strict=True), strict=False
        )
    ]
    widest = [max(map(_longest_line, column)) for column in columns]
    least = [max(map(_longest_word, column)) for column in columns]
    borders = 3 * len(columns) + 1
    while sum(widest) + borders > width and widest != least:
        spare = [n for n, w in enumerate(widest) if w > least[n]]
        widest[max(spare, key=widest.__getitem__)] -= 1
    return [
        [
            _broken(cell, room) if isinstance(cell, str) else cell
            for cell, room in zip(row, widest, strict=True)
        ]
        for row in cells
    ]


def _text(cell: Any) -> Any:
    if isinstance(cell, str):
        cell = Value(cell)
    return (
        cell.human_readable() if isinstance(cell, FormattableColumn) else cell
    )


def _longest_line(text: str) -> int:
    return max(map(len, text.split("\n")))


def _longest_word(text: str) -> int:
    """With what is to its left, which its continuation lines have too."""
    return max(
        _hang(line) + max(map(len, line[_hang(line) :].split() or [""]))
        for line in text.split("\n")
    )


def _hang(line: str) -> int:
    """Where the last of the columns in a line begins."""
    found = re.match(r".*(?:^ |  )(?=\S)", line)
    return found.end() if found else 0


def _broken(text: str, room: int) -> str:
    return "\n".join(
        textwrap.fill(
            line,
            room,
            subsequent_indent=" " * _hang(line),
            break_long_words=False,
            break_on_hyphens=False,
        )
        if len(line) > room
        else line
        for line in text.split("\n")
    )
