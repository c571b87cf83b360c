# SPDX-License-Identifier: Apache-2.0
"""From answers to what can be drawn: names, gaps, and not too many lines."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ceilometer_perf.panels.panel import Dashboard, Measures, Panel, Query
from ceilometer_perf.panels.table import TOP
from ceilometer_perf.report.answers import LINES, Answers, Series

LONGEST = 60  # letters of a name
#: In the legends of Prometheus' queries, and of Gnocchi's.
LABEL = re.compile(r"{{([a-z_]+)}}|\$([a-z_]+)")
GAP = math.nan


@dataclass(frozen=True, slots=True)
class Line:
    """A name, and a value or GAP for each of the chart's times."""

    name: str
    values: tuple[float, ...]
    limit: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A panel with its data; ``left_out`` lines did not fit."""

    panel: Panel
    times: tuple[float, ...]
    lines: tuple[Line, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A dashboard's charts."""

    dashboard: Dashboard
    charts: tuple[Chart, ...]


def pages(dashboards: Iterable[Dashboard], answers: Answers) -> list[Page]:
    """All charts that the database can answer, also those without a line."""
    return [
        Page(
            page,
            tuple(
                _chart(page, panel, answers)
                for panel in page.panels
                if panel.queries(answers.database)
            ),
        )
        for page in dashboards
    ]


def _chart(page: Dashboard, panel: Panel, answers: Answers) -> Chart:
    times = (answers.end,) if panel.kind == "top" else _times(answers)
    lines = [
        Line(_name(query, each.labels), _values(each, times), query.limit)
        for query in panel.queries(answers.database)
        for each in answers.series.get(query.key(page, panel.kind), ())
        if each.points
    ]
    lines.sort(key=lambda line: (line.limit, -_mean(line)))
    limits = [line for line in lines if line.limit]
    room = TOP if panel.kind == "top" else LINES
    shown = lines[: len(lines) - len(limits)][:room]
    left_out = len(lines) - len(limits) - len(shown)
    left_out += sum(
        answers.left_out.get(query.key(page, panel.kind), 0)
        for query in panel.queries(answers.database)
        if not query.limit
    )
    return Chart(panel, times, (*shown, *limits[:LINES]), left_out)


def _times(answers: Answers) -> tuple[float, ...]:
    count = int((answers.end - answers.start) / answers.step + 1e-6) + 1
    return tuple(answers.start + n * answers.step for n in range(count))


def _values(series: Series, times: tuple[float, ...]) -> tuple[float, ...]:
    if len(times) == 1:
        return (series.points[-1][1],)
    step = times[1] - times[0]
    by_place = {round((at - times[0]) / step): v for at, v in series.points}
    return tuple(by_place.get(place, GAP) for place in range(len(times)))


def _mean(line: Line) -> float:
    known = [value for value in line.values if not math.isnan(value)]
    return sum(known) / len(known) if known else 0.0


def _name(query: Query | Measures, labels: Mapping[str, str]) -> str:
    """The legend; names are chosen by the instance's owner."""

    def value(match: re.Match[str]) -> str:
        return labels.get(match[1] or match[2], "-")

    name = LABEL.sub(value, query.legend)
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
