# SPDX-License-Identifier: Apache-2.0
"""The dashboards are what their table says, and as Grafana reads them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from ceilometer_perf.meters import METERS
from ceilometer_perf.panels.panel import Panel
from ceilometer_perf.panels.table import DASHBOARDS
from tests.unit.test_prometheus_rules import exported, rules
from tools import dashboards, gnocchi_query

PANELS = [panel for page in DASHBOARDS for panel in page.panels]
FILES = sorted(dashboards.ETC.glob("*.json"))
RECORDED = re.compile(r"\b(?:vm|host|project):[a-z0-9_]+:[a-z0-9_]+\b")
EXPORTED = re.compile(r"\bceilometer_[a-z0-9_]+\b(?![+(|.])")
VARIABLE = re.compile(r"\$(host|vm|project)\b")


@pytest.fixture(autouse=True)
def _plugins() -> None:
    plugins.register_default_plugins()
    gnocchi_query.register()


def promql(panel: Panel) -> str:
    return " ".join(query.promql for query in panel.prometheus)


def test_the_files_are_what_the_table_says() -> None:
    made = dict(dashboards.files())
    assert set(made) == set(FILES)
    old = [path.name for path in FILES if path.read_text() != made[path]]
    assert old == [], "run python -m tools.dashboards"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafana_s_types_know_all_of_it(path: Path) -> None:
    """What they don't know is lost on the way through them."""
    data = json.loads(path.read_text())
    known = json.loads(
        json.dumps(Dashboard.from_json(data), cls=encoder.JSONEncoder)
    )
    assert known == data


def test_what_grafana_does_not_know_is_noticed() -> None:
    data = json.loads(FILES[0].read_text())
    data["panels"][0]["datasuorce"] = {}
    known = json.dumps(Dashboard.from_json(data), cls=encoder.JSONEncoder)
    assert json.loads(known) != data


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_can_be_imported_as_it_is(path: Path) -> None:
    data: dict[str, Any] = json.loads(path.read_text())
    assert "id" not in data
    assert len(data["uid"]) <= 40
    ids = [panel["id"] for panel in data["panels"]]
    assert len(set(ids)) == len(ids) > 0
    # Nobody else's data source has our uid.
    sources = re.findall(r'"uid": "([^"]+)"', path.read_text())
    assert set(sources) == {data["uid"], "${datasource}"}


def test_panels_ask_for_what_there_is() -> None:
    text = " ".join(map(promql, PANELS))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert set(RECORDED.findall(text)) <= recorded
    assert set(EXPORTED.findall(text)) <= exported()
    names = re.findall(
        r"\(metric ([a-z0-9_.]+) ",
        " ".join(m.operations for p in PANELS for m in p.gnocchi),
    )
    assert set(names) <= {meter.name for meter in METERS}


def test_panels_use_the_variables_of_their_page() -> None:
    for page in DASHBOARDS:
        used = {
            name
            for panel in page.panels
            for name in VARIABLE.findall(promql(panel))
        }
        assert used <= set(page.chosen)
        assert set(VARIABLE.findall(page.search)) <= set(page.chosen)


def test_the_documentation_names_each_dashboard() -> None:
    page = dashboards.ETC.parents[1] / "doc/source/dashboards.rst"
    assert all(f"*{each.name}*" in page.read_text() for each in DASHBOARDS)


def test_every_panel_says_what_it_is() -> None:
    for page in DASHBOARDS:
        titles = [panel.title for panel in page.panels]
        assert len(set(titles)) == len(titles)
        assert page.about
        assert all(panel.about and panel.prometheus for panel in page.panels)
