# SPDX-License-Identifier: Apache-2.0
"""Reports of what Gnocchi has: what it is asked, and what it answers."""

import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from ceilometer_perf import openstack
from ceilometer_perf.panels.table import DASHBOARDS, TOP
from ceilometer_perf.report import charts, gnocchi
from ceilometer_perf.report.answers import Answers, ReportError
from tests.unit.gnocchi_server import Had, having
from tests.unit.placement_server import Answer, answering
from tests.unit.shell import Ran, run

WEB, DB = (
    "f7827f82-9860-5fee-a95d-7fde6eb0ff93",
    "c97812d9-aaf7-54e5-9bc0-46f5802f46df",
)
NAMES = {WEB: "web-1", DB: None}
PANELS = [p for page in DASHBOARDS for p in page.panels if p.gnocchi]
BASIC = "auth_type = gnocchi-basic\nuser = admin\nendpoint = {url}\n"


def config(folder: Path, url: str, section: str = BASIC) -> Path:
    path = folder / "ceilometer.conf"
    path.write_text(f"[service_credentials]\n{section.format(url=url)}")
    return path


def report(folder: Path, url: str, *words: str, section: str = BASIC) -> Ran:
    return run("report", "--from", "gnocchi", "--config-file",
               str(config(folder, url, section)), *words,
               str(folder / "report.html"))  # fmt: skip


def ask(
    folder: Path,
    had: Had,
    *,
    chosen: dict[str, str] | None = None,
    window: float = 3600,
    interval: float = 60,
    granularity: float | None = None,
) -> Answers:
    with having(had) as url:
        return gnocchi.ask(
            connect(config(folder, url)),
            DASHBOARDS,
            chosen or {},
            window=window,
            interval=interval,
            granularity=granularity,
        )


def connect(path: Path, url: str | None = None) -> openstack.Api:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(path)])
    return gnocchi.connect(conf, url)


def refused(ran: Ran, *said: str) -> None:
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert len(ran.err) < 600
    for words in said:
        assert words in ran.err


def test_every_panel_that_has_a_query_is_drawn(tmp_path: Path) -> None:
    with having(Had(NAMES)) as url:
        ran = report(tmp_path, url)
    page = tmp_path / "report.html"
    assert ran.out == f"{page}: {len(PANELS)} panels\n"
    text = page.read_text()
    assert "web-1 cycles" in text
    # Who has no name has an id.
    assert DB in text
    assert f"Asked of {url}, for samples every 60 s." in text
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            drawn = f"<h3>{panel.title}</h3>" in text
            assert drawn == bool(panel.gnocchi), panel.title


def test_what_is_saved_is_drawn_again(tmp_path: Path) -> None:
    data, again = tmp_path / "data.json", tmp_path / "again.html"
    trust = ("--page", "trust")
    with having(Had(NAMES)) as url:
        report(tmp_path, url, *trust, "--save", str(data))
    ran = run("report", "--from", "file", "--data", str(data), *trust,
              str(again))  # fmt: skip
    assert ran.out == f"{again}: 2 panels\n"
    text = again.read_text()
    assert f"Asked of {url}, for samples every 60 s." in text
    # One has no query to Gnocchi.
    assert "<h3>Coverage</h3>" in text
    assert "<h3>Agents</h3>" not in text


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    had = Had(NAMES, values=(None, float("nan"), -5.0, 7.0))
    kept = ask(tmp_path, had)
    kept.save(tmp_path / "kept.json")
    assert Answers.load(tmp_path / "kept.json") == kept
    # What is missing is not drawn, nor the growth of what restarted.
    assert {
        value
        for series in kept.series.values()
        for each in series
        for _, value in each.points
    } == {7.0}


def test_a_database_that_nobody_knows(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    ask(tmp_path, Had(NAMES)).save(data)
    text = json.loads(data.read_text()) | {"database": "title"}
    data.write_text(json.dumps(text))
    refused(run("report", "--from", "file", "--data", str(data), "x"), "title")


def test_points_are_where_they_belong(tmp_path: Path) -> None:
    kept = ask(tmp_path, Had(NAMES))
    assert kept.step == 60
    assert kept.start % 60 == kept.end % 60 == 0
    assert kept.end - kept.start == 59 * 60
    for page in charts.pages(DASHBOARDS, kept):
        for chart in page.charts:
            for line in chart.lines:
                assert line.values[-1] == 3.0
                assert chart.panel.kind == "top" or line.values[-3:] == (
                    1.0,
                    2.0,
                    3.0,
                )


def test_bars_are_of_now(tmp_path: Path) -> None:
    """Who is gone is none of those with most."""
    had = Had(NAMES)
    began = time.time()
    kept = ask(tmp_path, had)
    tops = sum(len(p.gnocchi) for p in PANELS if p.kind == "top")
    spans = Counter(
        (
            datetime.fromisoformat(asked["stop"])
            - datetime.fromisoformat(asked["start"])
        ).total_seconds()
        for _, asked in had.asked
    )
    assert spans[gnocchi.RECENT * 60] == tops
    assert spans[3600] == len(had.asked) - tops
    # A span that isn't over lacks whoever is yet to be polled.
    assert kept.end + 60 <= began + 60
    assert kept.end + 120 > began


def test_as_many_bars_as_the_title_says(tmp_path: Path) -> None:
    many = {f"{WEB[:-2]}{n}": f"vm-{n}" for n in range(10, 30)}
    for page in charts.pages(DASHBOARDS, ask(tmp_path, Had(many))):
        for chart in page.charts:
            if chart.panel.kind == "top":
                assert (len(chart.lines), chart.left_out) == (TOP, 10)


def test_no_answer_is_taken_for_another() -> None:
    asked = {
        (
            measures.key(page, panel.kind),
            measures.operations,
            measures.group_by,
            page.search,
            panel.kind == "top",
        )
        for page in DASHBOARDS
        for panel in page.panels
        for measures in panel.gnocchi
    }
    assert len({key for key, *_ in asked}) == len(asked)


CHOSEN = {"host": "it's \" h1", "vm": WEB, "project": "p' or 1=1"}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_choice_is_for_the_pages_that_can_tell(
    tmp_path: Path, name: str
) -> None:
    had = Had(NAMES)
    kept = ask(tmp_path, had, chosen={name: CHOSEN[name]})
    there = {
        "or": [
            {"=": {"ended_at": None}},
            {">=": {"ended_at": gnocchi._iso(kept.start)}},
        ]
    }
    chosen: dict[str, Any] = {
        "host": {"=": {"host": CHOSEN["host"]}},
        "vm": {"=": {"id": WEB}},
        "project": {"like": {"project_id": CHOSEN["project"]}},
    }
    searches = iter(body["search"] for body, _ in had.asked)
    keys = set()
    for page in DASHBOARDS:
        expected = there
        if f"${name}" in page.search:
            expected = {"and": [chosen[name], there]}
        for panel in page.panels:
            for measures in panel.gnocchi:
                key = measures.key(page, panel.kind)
                if key not in keys:  # pages share some
                    assert next(searches) == expected
                keys.add(key)
    assert list(searches) == []


SOURCE = "- {{name: a{0}, interval: {0}, meters: [{1}]}}\n"


@pytest.mark.parametrize(
    ("polling", "words", "interval"),
    [
        ("", (), 60),
        ("sources: [", (), 60),
        (SOURCE.format(7, "image.size"), (), 60),
        (SOURCE.format(300, "perf.hw.*"), (), 300),
        (
            SOURCE.format(300, "perf.hw.*")
            + SOURCE.format(30, "perf.coverage, perf.sched.*"),
            (),
            300,
        ),
        (SOURCE.format(300, "perf.hw.*"), ("--interval", "30s"), 30),
    ],
)
def test_the_interval_of_this_host(
    tmp_path: Path, polling: str, words: tuple[str, ...], interval: int
) -> None:
    had = Had(NAMES)
    (tmp_path / "polling.yaml").write_text(f"sources:\n{polling}")
    with having(had) as url:
        ran = report(tmp_path, url, *words)
    assert (ran.code, ran.err) == (0, "")
    operations = {body["operations"] for body, _ in had.asked}
    cycles = f"(/ (metric perf.hw.cpu_cycles rate:mean) {interval})"
    assert cycles in operations
    assert f"every {interval} s" in (tmp_path / "report.html").read_text()


def test_two_intervals_of_this_host(tmp_path: Path) -> None:
    two = SOURCE.format(300, "perf.hw.*") + SOURCE.format(60, "perf.sw.*")
    (tmp_path / "polling.yaml").write_text(f"sources:\n{two}")
    with having(Had(NAMES)) as url:
        refused(report(tmp_path, url), "every 60 s, 300 s", "--interval")
        assert report(tmp_path, url, "--interval", "60s").code == 0


@pytest.mark.parametrize("interval", [60, 300])
def test_growth_is_of_the_interval(tmp_path: Path, interval: int) -> None:
    had = Had(NAMES)
    ask(tmp_path, had, interval=interval)
    asked = [body["operations"] for body, _ in had.asked]
    assert f"(/ (metric perf.hw.cache_misses rate:mean) {interval})" in asked
    assert not any("$" in each for each in asked)


@pytest.mark.parametrize(
    ("kept", "window", "interval", "best"),
    [
        ({60, 3600}, "6h", 60, [60, 3600]),
        ({300}, "6h", 60, [300]),
        ({1, 60, 300, 3600}, "30m", 60, [60, 300]),
        ({1, 60, 300, 3600}, "30m", 1, [1, 60, 300]),
        ({1, 60, 300, 3600}, "1d", 60, [300, 60, 3600]),
        ({1, 60, 300, 3600}, "7d", 300, [3600, 300]),
    ],
)
def test_the_span_that_suits_a_chart(
    kept: set[float], window: str, interval: int, best: list[float]
) -> None:
    from ceilometer_perf.cli.report import span

    assert gnocchi._steps(kept, span(window), interval, None) == best


@pytest.mark.parametrize(
    ("length", "seconds"),
    [
        ("0:00:01", 1),
        ("0:00:00.500000", 0.5),
        ("0:05:00", 300),
        ("1 day, 0:00:00", 86400),
        ("365 days, 1:00:00", 365 * 86400 + 3600),
    ],
)
def test_lengths_are_read(length: str, seconds: float) -> None:
    assert gnocchi._seconds(length) == seconds


def test_a_span_in_which_all_is_kept(tmp_path: Path) -> None:
    kept = {"perf.coverage": (300.0, 3600.0)}
    answers = ask(tmp_path, Had(NAMES, kept=kept))
    assert answers.step == 300
    assert all(answers.series.values())


def test_no_span_in_which_all_is_kept(tmp_path: Path) -> None:
    kept = {"perf.coverage": (1.0,)}
    with pytest.raises(
        ReportError, match=r"perf\.coverage with granularity 60 s"
    ):
        ask(tmp_path, Had(NAMES, kept=kept))


REFUSED: dict[str, tuple[Had, tuple[str, ...], str]] = {
    "no such span": (Had(NAMES), ("--granularity", "77s"), "60 s, 300 s"),
    "too short a span": (
        Had(NAMES, spans=(1, 60)),
        ("--granularity", "1s"),
        "--interval",
    ),
    "too short a window": (Had(NAMES), ("--window", "90s"), "--window"),
    "no policy": (Had(NAMES, spans=()), (), "have none"),
    "no rates": (Had(NAMES, aggregations=("mean",)), (), "-low-rate"),
    "not kept": (
        Had(NAMES, kept={"perf.coverage": (3600,)}),
        ("--granularity", "1m"),
        "perf.coverage with granularity 60 s",
    ),
    "no metrics": (Had(NAMES, metrics="none"), (), "gnocchi_resources.yaml"),
    "no instances": (Had({}, metrics="none"), (), "no data for any panel"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_have_is_one_line(tmp_path: Path, name: str) -> None:
    had, words, said = REFUSED[name]
    with having(had) as url:
        refused(report(tmp_path, url, *words), said)
    assert not (tmp_path / "report.html").exists()


def test_a_panel_without_data_is_named(tmp_path: Path) -> None:
    with having(Had(NAMES, metrics=r"(?!perf\.coverage).*")) as url:
        ran = report(tmp_path, url, "--page", "trust")
    assert ran.out.endswith("1 without data: Coverage\n")


ANSWERS = {
    "401": (Answer(401, b'{"description": ""}'), "credentials"),
    "403": (Answer(403, b'{"description": "no"}'), "admin role"),
    "404": (Answer(404, b"<html>"), "does the endpoint lead to Gnocchi?"),
    "500": (Answer(500, b"<p>" + b"x" * 10**6), "500"),
    "503": (Answer(503, b""), "503"),
    "not JSON": (Answer(200, b"<html>hello</html>"), "not a JSON list"),
    "bytes": (Answer(200, b"\xff\xfe\x00"), "not a JSON list"),
    "an object": (Answer(200, b"{}"), "not a JSON list"),
    "other entries": (Answer(200, b"[1]"), "is not Gnocchi's"),
    "other objects": (Answer(200, b'[{"a": 1}]'), "is not Gnocchi's"),
    "other policies": (
        Answer(200, b'[{"definition": [{"granularity": "soon"}]}]'),
        "is not Gnocchi's",
    ),
    "nothing": (Answer(None), "no answer"),
    "half": (Answer(200, b'[{"definition', late=3), "no answer"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_a_bad_answer_is_one_line(tmp_path: Path, name: str) -> None:
    answer, said = ANSWERS[name]
    with answering(answer) as url:
        refused(report(tmp_path, url, section=BASIC + "timeout = 1\n"), said)
    assert not (tmp_path / "report.html").exists()


WRONG: tuple[Callable[[Had], Any], ...] = (
    lambda had: (200, []),
    lambda had: (200, {}),
    lambda had: (200, {"measures": {WEB: []}, "references": []}),
    lambda had: (200, {"measures": {WEB: {"a": {"mean": [1]}}},
                       "references": [{"id": WEB}]}),
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_measures_are_one_line(
    tmp_path: Path,
    wrong: Callable[[Had], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Had, "aggregates", lambda had, *_: wrong(had))
    with having(Had(NAMES)) as url:
        refused(report(tmp_path, url), "Gnocchi's")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("", "auth_type is not set"),
        ("auth_type = bogus", "bogus"),
        ("auth_type = password", "auth_url"),
        ("auth_type = none\nendpoint = http://127.0.0.1:9", "no answer"),
        ("auth_type = none\nendpoint = not a url", "not a url"),
        ("auth_type = none\ntimeout = soon", "timeout"),
    ],
)
def test_settings_that_lead_nowhere_are_named(
    tmp_path: Path, section: str, said: str
) -> None:
    refused(report(tmp_path, "", section=section), said)


def test_settings_are_read_as_ceilometer_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "ceilometer.conf"
    path.write_text(
        "[gnocchi]\nauth_section = other\n[other]\nauth_type = none\n"
        "endpoint = http://127.0.0.1:1\nregion_name = r\n"
        "interface = internal\n"
    )
    ksa = connect(path).ksa
    assert ksa.service_type == "metric"
    assert (ksa.region_name, ksa.interface) == ("r", "internal")
    assert ksa.get_endpoint() == "http://127.0.0.1:1"
    ksa = connect(path, "http://127.0.0.1:2/metric").ksa
    assert ksa.get_endpoint() == "http://127.0.0.1:2/metric"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "gnocchi", "--data", "x"], "--data"),
        (["--granularity", "1m"], "needs --from gnocchi"),
        (["--interval", "1m"], "needs --from gnocchi"),
        (["--config-file", "x"], "--config-file"),
        (["--from", "gnocchi", "--config-file", "/nowhere/x"], "/nowhere/x"),
        (
            ["--from", "file", "--data", "x", "--interval", "1m"],
            "needs --from gnocchi",
        ),
    ],
)
def test_options_that_can_not_be_used(
    tmp_path: Path, words: list[str], said: str
) -> None:
    refused(run("report", *words, str(tmp_path / "x.html")), said)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with having(Had(NAMES)) as url:
        secret = url.replace("//", "//me:secret@")
        ran = report(tmp_path, url, "--url", secret)
    refused(ran, "[service_credentials]")
    assert "secret" not in ran.err
