# SPDX-License-Identifier: Apache-2.0
"""The alarms of ``etc``, as Aodh's API reads them."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pecan
import pytest
import yaml
from aodh.api import rbac
from aodh.api.controllers.v2 import utils
from aodh.api.controllers.v2.alarm_rules import gnocchi as rules
from aodh.api.controllers.v2.alarms import ACTIONS_SCHEMA, Alarm
from aodh.api.controllers.v2.base import ClientSideError
from gnocchi.archive_policy import ArchivePolicy
from wsme.exc import UnknownAttribute
from wsme.rest.json import fromjson

from ceilometer_perf.meters import L3_CACHE_UTIL, VICTIM, WITHHELD, Meter
from tests.unit.test_prometheus_rules import exported, promtool

FILES = sorted((Path(__file__).parents[2] / "etc" / "aodh").glob("*.json"))
PROMETHEUS = "prometheus"


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator's request, and a Gnocchi that answers."""
    conf = mock.MagicMock()
    conf.api.alarm_max_actions = -1
    request = SimpleNamespace(cfg=conf, headers={}, enforcer=None)
    monkeypatch.setattr(pecan, "request", request)
    monkeypatch.setattr(pecan, "response", SimpleNamespace())
    monkeypatch.setattr(rbac, "get_limited_to_project", lambda *_: None)
    monkeypatch.setattr(utils, "get_auth_project", lambda *_: None)
    monkeypatch.setattr(rules.keystone_client, "get_session", mock.Mock())
    client = mock.Mock()
    client.capabilities.list.return_value = {
        "aggregation_methods": ArchivePolicy.VALID_AGGREGATION_METHODS
    }
    monkeypatch.setattr(rules.client, "Client", lambda *_, **__: client)


def body(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def rule(path: Path) -> dict[str, Any]:
    return dict(body(path)[f"{body(path)['type']}_rule"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_aodh_takes_it(path: Path) -> None:
    alarm = fromjson(Alarm, body(path))  # which validates it
    read = getattr(alarm, f"{alarm.type}_rule").as_dict()
    assert rule(path).items() <= read.items()
    for action in alarm.alarm_actions:
        assert action.partition(":")[0] in ACTIONS_SCHEMA


def test_each_kind_is_there() -> None:
    assert {body(path)["type"] for path in FILES} == {
        "gnocchi_aggregation_by_resources_threshold",
        "gnocchi_resources_threshold",
        PROMETHEUS,
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_aodh_would_say_otherwise(path: Path) -> None:
    wrong = body(path)
    wrong[f"{wrong['type']}_rule"]["threshold"] = "much"
    with pytest.raises(ValueError, match="much"):
        fromjson(Alarm, wrong)
    with pytest.raises(UnknownAttribute):
        fromjson(Alarm, {**body(path), "kind": "any"})


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if PROMETHEUS in path.stem],
    ids=lambda path: path.stem,
)
def test_ordinary_users_need_another_action(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then they get an alarm on their project's instances."""
    for module, name in (
        (rbac, "get_limited_to_project"),
        (utils, "get_auth_project"),
    ):
        monkeypatch.setattr(module, name, lambda *_: "theirs")
    with pytest.raises(ClientSideError, match="create action: log://"):
        fromjson(Alarm, body(path))
    webhook = {"alarm_actions": ["https://example.org/"]}
    alarm = fromjson(Alarm, {**body(path), **webhook})
    made = alarm.prometheus_rule.as_dict()
    assert made == {**rule(path), "scope_to_project": "theirs"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_ask_for_a_meter_of_ours(path: Path) -> None:
    if body(path)["type"] == PROMETHEUS:
        (name,) = re.findall(r"ceilometer_\w+", rule(path)["query"])
        assert name in exported()
    else:
        metrics = {each.name for each in (L3_CACHE_UTIL, VICTIM, WITHHELD)}
        assert rule(path)["metric"] in metrics
        json.loads(rule(path).get("query", "{}"))


@pytest.mark.parametrize(
    ("name", "meter", "values", "fires"),
    [
        ("slowed-down", VICTIM, "0x5 0.31x12", True),
        ("slowed-down", VICTIM, "0x5 0.31x5 _ 0.31x5", True),
        ("slowed-down", VICTIM, "0.31x7 0x0 0.31x9", False),
        ("slowed-down", VICTIM, "0.09x17", False),
        ("l3-of-any-instance", L3_CACHE_UTIL, "0x5 75x11", True),
        ("l3-of-any-instance", L3_CACHE_UTIL, "75x10 0x6", False),
    ],
)
def test_prometheus_answers_what_it_is_asked(
    tmp_path: Path, name: str, meter: Meter, values: str, fires: bool
) -> None:
    asked = rule(FILES[0].with_name(f"{name}-prometheus.json"))
    series = f"ceilometer_{meter.name.replace('.', '_')}"
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f'{series}{{resource="a"}}', "values": values},
            {"series": f'{series}{{resource="b"}}', "values": "0x17"},
        ],
        "promql_expr_test": [
            {
                "expr": f"{asked['query']} > bool {asked['threshold']}",
                "eval_time": "17m",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_has_each_file() -> None:
    page = FILES[0].parents[2] / "doc/source/alarms-and-bills.rst"
    named = set(re.findall(r"``([\w-]+\.json)``", page.read_text()))
    assert named == {path.name for path in FILES}
