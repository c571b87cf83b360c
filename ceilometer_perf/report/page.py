# SPDX-License-Identifier: Apache-2.0
"""Draw charts with Bokeh, into one file that loads nothing.

Names of instances are their owners' choice. They reach the page as text in
Bokeh's JSON, which draws it on a canvas, and nowhere as HTML or TeX.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jinja2
from bokeh.document import Document
from bokeh.embed import components
from bokeh.models import (
    AdaptiveTicker,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
    HoverTool,
    Model,
    Range1d,
)
from bokeh.models.annotations import Legend, LegendItem
from bokeh.palettes import Category20
from bokeh.plotting import figure
from bokeh.resources import Resources

from ceilometer_perf.panels.panel import (
    BYTES,
    BYTES_PER_SECOND,
    NUMBER,
    SHARE,
    Unit,
)
from ceilometer_perf.report.charts import Chart, Line, Page

WIDTH, PLOT_HEIGHT, LEGEND_ROW = 640, 250, 22  # pixels
BAR = 30  # pixels
COLUMNS = 2  # of a legend
TICKS = 5  # of an axis, about
# The strong colours first: lines that matter most come first too.
COLOURS = (*Category20[20][::2], *Category20[20][1::2])
LIMIT = "#000000"
# All that these charts need of Bokeh, a quarter of what it has.
LIBRARY = Resources(mode="inline", components=["bokeh"])
BINARY = (BYTES, BYTES_PER_SECOND)

# A number in short form; `base` is 1024 for bytes.
_SHORT = """
const short = (value) => {
  const units = base == 1024
    ? ["", " KiB", " MiB", " GiB", " TiB", " PiB"]
    : ["", " k", " M", " G", " T", " P"];
  let size = Math.abs(value), power = 0;
  while (size >= base && power < units.length - 1) {
    size /= base; power += 1;
  }
  const digits = Number(size.toPrecision(digits_shown)).toString();
  return (value < 0 ? "-" : "") + digits + units[power] + after;
};
"""

TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; \
img-src data: blob:">
<title>{{ title }}</title>
<style>
body { font-family: "DejaVu Sans", sans-serif; margin: 1em 1.5em; }
h1 { font-size: 1.4em; } h2 { font-size: 1.2em; margin: 1.2em 0 0.2em; }
p { margin: 0.2em 0; color: #444; font-size: 0.85em; }
.note { color: #a04000; font-weight: bold; font-size: 0.95em; }
.charts { display: flex; flex-wrap: wrap; gap: 0.6em 1.2em; }
.chart { width: {{ width }}px; } h3 { font-size: 1em; margin: 0.8em 0 0; }
.none { color: #888; padding: 2em 0; }
</style>
{{ scripts }}
</head>
<body>
<h1>{{ title }}</h1>
{% if note %}<p class="note">{{ note }}</p>{% endif %}
<p>{{ span }}. Asked of {{ source }}.</p>
{% for page, charts in pages %}
<h2>{{ page.dashboard.title }}</h2>
<p>{{ page.dashboard.about }}</p>
<div class="charts">
{% for chart, plot in charts %}
<div class="chart">
<h3>{{ chart.panel.title }}</h3>
<p>{{ chart.panel.about }}
{%- if chart.left_out %} {{ chart.left_out }} more are not shown.{% endif %}
</p>
{% if plot %}{{ plot }}{% else %}<p class="none">No data.</p>{% endif %}
</div>
{% endfor %}
</div>
{% endfor %}
{{ script }}
</body>
</html>
"""


def html(
    pages: Sequence[Page],
    *,
    title: str,
    note: str,
    source: str,
    span: tuple[float, float],
) -> str:
    """The whole page; ``span`` is in seconds since 1970."""
    drawn: dict[str, Model] = {
        f"{i}.{j}": _figure(chart, _colours(page))
        for i, page in enumerate(pages)
        for j, chart in enumerate(page.charts)
        if chart.lines
    }
    script, divisions = _components(drawn) if drawn else ("", {})
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(TEMPLATE).render(
        title=title,
        note=note,
        source=source,
        span=_span(span),
        width=WIDTH,
        # Bokeh's own, which is HTML already.
        scripts=_markup(LIBRARY.render_js()),
        script=_markup(script),
        pages=[
            (
                page,
                [
                    (chart, _markup(divisions.get(f"{i}.{j}", "")))
                    for j, chart in enumerate(page.charts)
                ],
            )
            for i, page in enumerate(pages)
        ],
    )


def _components(drawn: dict[str, Model]) -> tuple[str, dict[str, str]]:
    """As ``components``, which looks at all charts again for each one."""
    document = Document()
    with document.models.freeze():
        for model in drawn.values():
            document.add_root(model)
    script, divisions = components(drawn)
    return script, divisions


def _markup(text: str) -> Any:
    return jinja2.filters.do_mark_safe(text)


def _span(span: tuple[float, float]) -> str:
    start, end = (datetime.fromtimestamp(at, UTC) for at in span)
    shown = f"{start:%Y-%m-%d %H:%M:%S} to "
    same_day = start.date() == end.date()
    return (
        shown + f"{end:{'%H:%M:%S' if same_day else '%Y-%m-%d %H:%M:%S'}} UTC"
    )


Colours = Mapping[str, str]


def _colours(page: Page) -> Colours:
    """By name, so that an instance looks the same in all charts."""
    colours: dict[str, str] = {}
    for chart in page.charts:
        for line in chart.lines:
            if line.limit:
                colours[line.name] = LIMIT
            elif line.name not in colours:
                colours[line.name] = COLOURS[len(colours) % len(COLOURS)]
    return colours


def _figure(chart: Chart, colours: Colours) -> figure:
    if chart.panel.kind == "top":
        return _bars(chart)
    return _over_time(chart, colours)


def _formatting(unit: Unit) -> dict[str, Any]:
    """The arguments of the JavaScript above for a unit."""
    if unit == SHARE:
        return {"base": 1e9, "after": " %", "times": 100, "digits_shown": 3}
    return {
        "base": 1024 if unit in BINARY else 1000,
        "after": "",
        "times": 1,
        "digits_shown": 3,
    }


def not_tex(name: str) -> str:
    """The same appearance, without anything that Bokeh treats as TeX."""
    return re.sub(r"(?<=\$)(?=\$)|(?<=\\)(?=[\[\]()])", "\u200b", name)


def _ticker(unit: Unit) -> AdaptiveTicker:
    if unit in BINARY:
        return AdaptiveTicker(
            base=1024,
            mantissas=[2**n for n in range(10)],
            desired_num_ticks=TICKS,
        )
    whole = 1 if unit == NUMBER else 0
    return AdaptiveTicker(
        mantissas=[1, 2, 5], desired_num_ticks=TICKS, min_interval=whole
    )


def _ticks(unit: Unit) -> CustomJSTickFormatter:
    return CustomJSTickFormatter(
        args=_formatting(unit), code=f"{_SHORT}return short(tick * times);"
    )


def _hover(unit: Unit) -> CustomJSHover:
    return CustomJSHover(
        args=_formatting(unit) | {"digits_shown": 4},
        code=f"{_SHORT}return short(value * times);",
    )


def _plain(made: figure) -> figure:
    made.toolbar.logo = None
    made.toolbar.autohide = True
    made.outline_line_color = None
    return made


def _bars(chart: Chart) -> figure:
    """One under the other, the longest first."""
    unit = chart.panel.unit
    # Two instances may have one name; a bar for each all the same.
    places = list(range(len(chart.lines), 0, -1))
    data = ColumnDataSource(
        {
            "place": places,
            "name": [line.name for line in chart.lines],
            "value": [line.values[-1] for line in chart.lines],
        }
    )
    longest = max(line.values[-1] for line in chart.lines)
    made = figure(
        width=WIDTH,
        height=90 + BAR * len(places),
        x_axis_label=unit.text,
        x_range=Range1d(start=0, end=longest * 1.05 or 1),
        y_range=Range1d(start=0.4, end=len(places) + 0.6),
        tools="save",
    )
    bars = made.hbar(
        y="place", right="value", height=0.7, color=COLOURS[0], source=data
    )
    made.yaxis.ticker = places
    made.yaxis.major_label_overrides = {
        place: not_tex(line.name)
        for place, line in zip(places, chart.lines, strict=True)
    }
    made.ygrid.visible = False
    made.xaxis.formatter = _ticks(unit)
    made.xaxis.ticker = _ticker(unit)
    made.xaxis.minor_tick_line_color = None
    made.add_tools(
        HoverTool(
            renderers=[bars],
            tooltips=[("", "@name"), (unit.text, "@value{custom}")],
            formatters={"@value": _hover(unit)},
        )
    )
    return _plain(made)


def _over_time(chart: Chart, colours: Colours) -> figure:
    rows = math.ceil(len(chart.lines) / COLUMNS)
    made = figure(
        width=WIDTH,
        height=PLOT_HEIGHT + rows * LEGEND_ROW,
        x_axis_type="datetime",
        x_axis_label="time (UTC)",
        y_axis_label=chart.panel.unit.text,
        x_range=Range1d(
            start=chart.times[0] * 1000, end=chart.times[-1] * 1000
        ),
        y_range=Range1d(start=0, end=_highest(chart) * 1.08 or 1),
        tools="xpan,xwheel_zoom,reset,save",
    )
    made.yaxis.formatter = _ticks(chart.panel.unit)
    made.yaxis.ticker = _ticker(chart.panel.unit)
    made.yaxis.minor_tick_line_color = None
    drawn = [
        (line, _draw(made, line, values, base, colours[line.name], chart))
        for line, values, base in _stacked(chart)
    ]
    made.add_layout(
        Legend(
            items=[
                LegendItem(
                    label={"value": not_tex(line.name)}, renderers=renderers
                )
                for line, renderers in drawn
            ],
            ncols=COLUMNS,
            click_policy="hide",
            label_text_font_size="11px",
            label_height=12,
            glyph_height=12,
            spacing=8,
            margin=0,
            location="top_left",
            border_line_color=None,
        ),
        "below",
    )
    return _plain(made)


def _stacked(
    chart: Chart,
) -> list[tuple[Line, list[float], list[float] | None]]:
    """Each line with its heights, and with those it stands on, if any."""
    if chart.panel.kind != "stacked":
        return [(line, list(line.values), None) for line in chart.lines]
    made: list[tuple[Line, list[float], list[float] | None]] = []
    base = [0.0] * len(chart.times)
    for line in chart.lines:
        if line.limit:
            made.append((line, list(line.values), None))
            continue
        known = (0.0 if math.isnan(v) else v for v in line.values)
        top = [low + value for low, value in zip(base, known, strict=True)]
        made.append((line, top, base))
        base = top
    return made


def _highest(chart: Chart) -> float:
    values = (v for _, heights, _ in _stacked(chart) for v in heights)
    return max((v for v in values if not math.isnan(v)), default=0.0)


def _draw(
    made: figure,
    line: Line,
    heights: list[float],
    base: list[float] | None,
    colour: str,
    chart: Chart,
) -> list[Any]:
    columns: dict[str, list[Any]] = {
        "at": [at * 1000 for at in chart.times],
        "value": list(line.values),
        "name": [line.name] * len(heights),
    }
    if base is not None:
        columns |= {"height": heights, "base": base}
    data = ColumnDataSource(columns)
    drawn = made.line(
        "at",
        "value" if base is None else "height",
        source=data,
        color=colour,
        line_width=2 if line.limit or base is None else 1,
        line_dash="dashed" if line.limit else "solid",
    )
    made.add_tools(
        HoverTool(
            renderers=[drawn],
            tooltips=[
                ("", "@name"),
                ("", "@at{%H:%M:%S}"),
                (chart.panel.unit.text, "@value{custom}"),
            ],
            formatters={
                "@at": "datetime",
                "@value": _hover(chart.panel.unit),
            },
            visible=False,
        )
    )
    if base is None:
        return [drawn]
    area = made.varea(
        "at", "base", "height", source=data, color=colour, alpha=0.6
    )
    return [area, drawn]
