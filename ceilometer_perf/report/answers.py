# SPDX-License-Identifier: Apache-2.0
"""What a database said to the panels' queries, and where it is kept."""

import json
import math
import os
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

from ceilometer_perf import files
from ceilometer_perf.panels.panel import (
    Dashboard,
    Database,
    Kind,
    Measures,
    Panel,
    Query,
)

Q = TypeVar("Q", Query, Measures)

Labels = Mapping[str, str]
Point = tuple[float, float]
Chosen = Mapping[str, str]
"""What variables stand for; one that is missing, for everything."""

MOST = 256 << 20  # bytes that are saved
POINTS = 240  # of a line, about
LINES = 15  # that a chart has room for


class ReportError(Exception):
    """The data for a report can't be obtained or read; for people."""


@dataclass(frozen=True, slots=True)
class Series:
    """Its labels, and (seconds since 1970, value), oldest first."""

    labels: Labels
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers, by the keys of the panels' queries to a ``database``.

    ``start``, ``end`` and ``step`` are in seconds; points are ``step`` apart
    and missing where there was no value. ``source`` says who answered.
    ``left_out`` counts the series that no chart has room for.
    """

    source: str
    database: Database
    start: float
    end: float
    step: float
    series: Mapping[str, Sequence[Series]]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Keep them as JSON, series as Prometheus' API has them."""
        kept = {
            "source": self.source,
            "database": self.database,
            "start": self.start,
            "end": self.end,
            "step": self.step,
            "left_out": dict(self.left_out),
            "answers": {
                key: [
                    {
                        "metric": dict(each.labels),
                        "values": [[at, str(v)] for at, v in each.points],
                    }
                    for each in series
                ]
                for key, series in self.series.items()
            },
        }
        write(path, json.dumps(kept, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """What was saved; ReportError if it can't be read."""
        try:
            kept = json.loads(files.read(path, MOST))
            answers = cls(
                source=str(kept["source"]),
                # Prometheus was the only one once.
                database=_database(kept.get("database", "prometheus")),
                start=_number(kept["start"]),
                end=_number(kept["end"]),
                step=_number(kept["step"]),
                series={
                    str(key): parse(result)
                    for key, result in kept["answers"].items()
                },
                left_out={
                    str(key): int(number)
                    for key, number in kept.get("left_out", {}).items()
                },
            )
        except OSError as error:
            raise ReportError(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ReportError(
                f"{path}: not written by `ceilometer-perf report --save` "
                f"({type(error).__name__}: {error})"
            ) from error
        if not 0 < answers.step <= answers.end - answers.start:
            raise ReportError(
                f"{path}: start, end and step are not a time range"
            )
        return answers


class Collected:
    """Answers that come one by one, each cut down to what can be drawn.

    All of a large cloud's would not fit into memory.
    """

    def __init__(self) -> None:
        self.series: dict[str, list[Series]] = {}
        self.left_out: dict[str, int] = {}

    def missing(
        self,
        pages: Iterable[Dashboard],
        queries: Callable[[Panel], Iterable[Q]],
    ) -> Iterator[tuple[str, Dashboard, Panel, Q]]:
        """What is still to be asked for, and the key to add it by.

        Pages share queries, which are asked for once.
        """
        for page in pages:
            for panel in page.panels:
                for query in queries(panel):
                    key = query.key(page, panel.kind)
                    if key not in self.series:
                        yield key, page, panel, query

    def add(self, key: str, kind: Kind, found: Iterable[Series]) -> None:
        """Keep the series with the highest values, as charts show them."""
        of = _last if kind == "top" else _mean
        known = [each for each in found if each.points]
        known.sort(key=of, reverse=True)
        self.series[key] = known[:LINES]
        if known[LINES:]:
            self.left_out[key] = len(known) - LINES


def _last(series: Series) -> float:
    return series.points[-1][1]


def _mean(series: Series) -> float:
    return sum(value for _, value in series.points) / len(series.points)


def parse(result: Any) -> list[Series]:
    """Series of Prometheus' API, a range's or an instant's.

    ValueError, TypeError, KeyError or AttributeError if it is anything else.
    """
    return [
        Series(
            {str(k): str(v) for k, v in each["metric"].items()},
            _points(each["values"] if "values" in each else [each["value"]]),
        )
        for each in result
    ]


def _points(values: Any) -> list[Point]:
    points = ((float(at), float(value)) for at, value in values)
    return [(at, value) for at, value in points if math.isfinite(value)]


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _database(name: Any) -> Database:
    if name not in get_args(Database):
        raise ValueError(name)
    return name  # type: ignore[no-any-return]


def shown(url: str) -> str:
    """The URL without user and password."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl()


def write(path: Path, text: str) -> None:
    """All of it or nothing; ReportError if it can't be written.

    Links stay, and so do devices and pipes, which take it as it comes.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()
        unfinished = path.with_name(unfinished.name)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except (OSError, UnicodeError) as error:
        unfinished.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise ReportError(f"{path}: can't be written: {reason}") from error
