# SPDX-License-Identifier: Apache-2.0
"""Reports: what is drawn, what a page must not do, and bad input."""

import dataclasses
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.panels.table import DASHBOARDS
from ceilometer_perf.report import charts, prometheus
from ceilometer_perf.report.answers import (
    LINES,
    Answers,
    Collected,
    Series,
    shown,
)
from tests.unit import serving
from tests.unit.shell import run

QUERIES = {
    query.promql: panel
    for page in DASHBOARDS
    for panel in page.panels
    for query in panel.prometheus
}
LABELS = {"resource_name": "web:i-1", "instance": "h1", "project": "p1"}
#: The one with charts of every kind: bars, lines, and lines that are stacked.
ONE_PAGE = ("--page", "overview")
HOSTILE = (
    '<img src="http://example.org/x" onerror="alert(1)">',
    "</script><script>alert(2)</script>",
    "$$\\alpha$$ \\[x\\] \\(y\\)",
    "a\u202egpj\nb",
    "x" * 1000,
)


def answers(*names: str, start: float = 1000, end: float = 1100) -> Answers:
    """Each query has a series for each name."""
    return Answers(
        source="somebody",
        database="prometheus",
        start=start,
        end=end,
        step=10,
        series={
            promql: [
                Series(
                    LABELS | {"resource_name": name},
                    [(start + 10 * n, n + place) for n in range(11)],
                )
                for place, name in enumerate(names)
            ]
            for promql in QUERIES
        },
    )


def saved(folder: Path, *names: str) -> str:
    path = folder / "data.json"
    answers(*names).save(path)
    return str(path)


def chart(title: str, kept: Answers) -> charts.Chart:
    return next(
        chart
        for page in charts.pages(DASHBOARDS, kept)
        for chart in page.charts
        if chart.panel.title == title
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    kept = dataclasses.replace(answers("a", "b"), left_out={"up": 3})
    kept.save(tmp_path / "kept.json")
    loaded = Answers.load(tmp_path / "kept.json")
    assert (loaded.series, loaded.left_out) == (kept.series, {"up": 3})
    assert (loaded.start, loaded.end, loaded.step) == (1000, 1100, 10)


def test_what_is_missing_is_a_gap() -> None:
    kept = answers("a")
    promql = "host:l3:ratio"
    kept.series[promql][0].points[4:6] = []  # type: ignore[index]
    (line,) = chart("L3 share by host", kept).lines
    gaps = [n for n, value in enumerate(line.values) if math.isnan(value)]
    assert gaps == [4, 5]
    assert line.name == "h1"


def test_more_lines_than_there_is_room_for() -> None:
    kept = answers(*(f"vm-{n:02}" for n in range(40)))
    drawn = chart("L3 share by instance", kept)
    assert len(drawn.lines) == LINES
    assert drawn.left_out == 40 - LINES
    # Those with most of it.
    assert drawn.lines[0].name == "vm-39"


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.floats(0, 1e18)), min_size=11,
                 max_size=11),
        max_size=40,
    )
)  # fmt: skip
def test_what_is_not_kept_would_not_be_drawn(
    values: list[list[float | None]],
) -> None:
    every = answers()
    every = dataclasses.replace(
        every,
        series={
            promql: [
                Series(
                    LABELS | {"resource_name": f"vm-{number}"},
                    [
                        (1000 + 10 * at, value)
                        for at, value in enumerate(of_one)
                        if value is not None
                    ],
                )
                for number, of_one in enumerate(values)
            ]
            for promql in every.series
        },
    )
    collected = Collected()
    for key, series in every.series.items():
        collected.add(key, QUERIES[key].kind, series)
        assert len(collected.series[key]) <= LINES
    kept = dataclasses.replace(
        every, series=collected.series, left_out=collected.left_out
    )
    # repr: a gap is no number, and equals none.
    assert repr(charts.pages(DASHBOARDS, kept)) == repr(
        charts.pages(DASHBOARDS, every)
    )


def test_limits_stay_when_there_is_no_room() -> None:
    kept = answers(*(f"vm-{n}" for n in range(40)))
    drawn = chart("L3 cache by instance", kept)
    assert {line.limit for line in drawn.lines} == {True, False}


def test_names_are_fit_to_be_read() -> None:
    names = [line.name for line in chart("CPU", answers(*HOSTILE)).lines]
    assert all(name.isprintable() for name in names)
    assert max(map(len, names)) == charts.LONGEST


def test_names_do_nothing_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    data = saved(tmp_path, *HOSTILE)
    ran = run("report", "--from", "file", "--data", data, *ONE_PAGE,
              "--note", HOSTILE[1], str(page))  # fmt: skip
    assert ran.code == 0, ran.err
    text = page.read_text()
    for name in HOSTILE[:2]:
        assert name not in text
    scripts = len(re.findall(r"<script\b", text))
    harmless = tmp_path / "harmless.html"
    data = saved(tmp_path, "a")
    run("report", "--from", "file", "--data", data, *ONE_PAGE, str(harmless))
    assert scripts == len(re.findall(r"<script\b", harmless.read_text()))
    assert "&lt;script&gt;alert(2)" in text


def test_a_page_loads_nothing(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    data = saved(tmp_path, "a")
    run("report", "--from", "file", "--data", data, str(page))
    text = page.read_text()
    assert "default-src 'none'" in text
    assert (
        re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", text)
        == []
    )
    assert len(text) < 3e6
    for dashboard in DASHBOARDS:
        assert dashboard.title in text
        assert all(panel.title in text for panel in dashboard.panels)
    assert "No data." not in text


def test_a_panel_without_data_says_so(tmp_path: Path) -> None:
    kept = answers("a")
    del kept.series["host:l3:ratio"]  # type: ignore[attr-defined]
    kept.save(tmp_path / "kept.json")
    page = tmp_path / "report.html"
    ran = run("report", "--from", "file", "--data",
              str(tmp_path / "kept.json"), *ONE_PAGE, str(page))  # fmt: skip
    assert "1 without data: L3 share by host" in ran.out
    assert page.read_text().count("No data.") == 1


def test_names_are_drawn_as_they_are() -> None:
    """What Bokeh takes for TeX it would draw as such."""
    from ceilometer_perf.report.page import not_tex

    safe = not_tex(HOSTILE[2])
    assert safe.replace("\u200b", "") == HOSTILE[2]
    assert not any(tex in safe for tex in ("$$", "\\[", "\\]", "\\("))


def test_a_choice_is_no_way_into_the_query() -> None:
    (query,) = DASHBOARDS[2].panels[2].prometheus
    assert prometheus.promql(query, {"host": 'a"} or up'}) == (
        'vm:perf_cpus:rate10m{instance=~"a\\"\\\\}\\\\ or\\\\ up"}'
    )
    assert prometheus.promql(query, {}) == (
        'vm:perf_cpus:rate10m{instance=~".*"}'
    )


NOT_DATA = {
    "nothing": "",
    "no JSON": "<html>",
    "a list": "[]",
    "no answers": '{"source": "x", "start": 1, "end": 2, "step": 1}',
    "no series": '{"source": "x", "start": 1, "end": 2, "step": 1, '
    '"answers": {"up": [{}]}}',
    "no time": '{"source": "x", "start": 2, "end": 2, "step": 1, '
    '"answers": {}}',
    "no number": '{"source": "x", "start": NaN, "end": 2, "step": 1, '
    '"answers": {}}',
    "empty": '{"source": "x", "start": 1, "end": 2, "step": 1, "answers": {}}',
}  # fmt: skip


@pytest.mark.parametrize("text", NOT_DATA.values(), ids=NOT_DATA)
def test_a_file_that_is_no_data(tmp_path: Path, text: str) -> None:
    page, data = tmp_path / "report.html", tmp_path / "data.json"
    data.write_text(text)
    ran = run("report", "--from", "file", "--data", str(data), str(page))
    refused(ran.code, ran.err)
    assert not page.exists()


def refused(code: int, err: str) -> None:
    assert code == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from", "file"], "--data"),
        (["--from", "file", "--data", "x", "--url", "y"], "--url"),
        (["--from", "file", "--data", "x", "--host", "y"], "--host"),
        (["--data", "x"], "--data"),
        (["--from", "file", "--data", "/nowhere/x"], "/nowhere/x"),
        (["--url", "http://127.0.0.1:9"], "Connection refused"),
        (["--url", "nonsense"], "--url"),
    ],
)
def test_options_that_can_not_be_used(
    tmp_path: Path, options: list[str], says: str
) -> None:
    page = tmp_path / "report.html"
    ran = run("report", *options, str(page))
    refused(ran.code, ran.err)
    assert says in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    url = "http://me:secret@127.0.0.1:9"
    ran = run("report", "--url", url, str(tmp_path / "report.html"))
    refused(ran.code, ran.err)
    assert "secret" not in ran.err
    assert shown(f"{url}/x") == "http://127.0.0.1:9/x"


@pytest.mark.parametrize("word", ["", "0h", "1", "h", "-1h", "1 h", "1w"])
def test_a_span_that_is_none(word: str) -> None:
    ran = run("report", f"--window={word}", "x")
    assert ran.code == 2
    assert "6h" in ran.err


def test_a_page_that_can_not_be_written(tmp_path: Path) -> None:
    data = saved(tmp_path, "a")
    ran = run("report", "--from", "file", "--data", data, *ONE_PAGE,
              "/nowhere/x.html")  # fmt: skip
    refused(ran.code, ran.err)
    assert "/nowhere/x.html" in ran.err


def test_a_report_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("the last one")
    run("report", "--url", "http://127.0.0.1:9", str(page))
    assert page.read_text() == "the last one"


def test_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bokeh.embed", None)
    monkeypatch.delitem(
        sys.modules, "ceilometer_perf.report.page", raising=False
    )
    package = sys.modules["ceilometer_perf.report"]
    monkeypatch.delattr(package, "page", raising=False)
    data = saved(tmp_path, "a")
    ran = run("report", "--from", "file", "--data", data, "x.html")
    refused(ran.code, ran.err)
    assert "pip install 'ceilometer-perf[report]'" in ran.err


class Wrong(serving.Handler):
    """Answers what ``body`` says."""

    body = b""

    def do_GET(self) -> None:
        self.reply(200, self.body)


@pytest.fixture
def server() -> Iterator[str]:
    with serving.serving(Wrong) as url:
        yield url


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("<html>", "not Prometheus"),
        ("[]", "not Prometheus"),
        ("{}", "not Prometheus"),
        ('{"status": "error", "error": "too many"}', "too many"),
        ('{"status": "success", "data": {}}', "is not Prometheus'"),
        ('{"status": "success", "data": {"result": [1]}}', "is not"),
        ('{"status": "success", "data": {"result": []}}', "rules"),
    ],
)
def test_somebody_else_answers(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    says: str,
) -> None:
    monkeypatch.setattr(Wrong, "body", body.encode())
    page = tmp_path / "report.html"
    ran = run("report", "--url", server, str(page))
    refused(ran.code, ran.err)
    assert says in ran.err
    assert not page.exists()
    secret = server.replace("://", "://user:secret@")
    ran = run("report", "--url", secret, str(page))
    refused(ran.code, ran.err)
    assert "secret" not in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-",), "a report must be a file"),
        (("x.html", "--save", "-"), "a report must be a file"),
        (("x.html", "--save", "./x.html"), "this is the report itself"),
        (("x.html", "--instance", "nope"), "--instance 'nope' is not a UUID"),
    ],
)
def test_files_that_no_report_is_written_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    says: str,
) -> None:
    data = saved(tmp_path, "a")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    more = () if "--instance" in words else ("--from", "file", "--data", data)
    ran = run("report", *words, *more)
    refused(ran.code, ran.err)
    assert says in ran.err
    assert sorted(tmp_path.iterdir()) == before
