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
from aodh.api import rbac
from aodh.api.controllers.v2 import utils
from aodh.api.controllers.v2.alarm_rules import gnocchi as rules
from aodh.api.controllers.v2.alarms import ACTIONS_SCHEMA, Alarm
from gnocchi.archive_policy import ArchivePolicy
from wsme.exc import UnknownAttribute
from wsme.rest.json import fromjson

from ceilometer_perf.meters import L3_CACHE_UTIL, WITHHELD
from tests.unit.test_prometheus_rules import exported

FILES = sorted((Path(__file__).parents[2] / "etc" / "aodh").glob("*.json"))
PROMETHEUS = "prometheus"


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator's request, and a Gnocchi that answers."""
    conf = mock.MagicMock()
    conf.api.alarm_max_actions = -1
    request = SimpleNamespace(cfg=conf, headers={}, enforcer=None)
    monkeypatch.setattr(pecan, "request", request)
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_ask_for_a_meter_of_ours(path: Path) -> None:
    if body(path)["type"] == PROMETHEUS:
        (name,) = re.findall(r"ceilometer_\w+", rule(path)["query"])
        assert name in exported()
    else:
        assert rule(path)["metric"] in (L3_CACHE_UTIL.name, WITHHELD.name)
        json.loads(rule(path).get("query", "{}"))


def test_the_page_has_each_file() -> None:
    page = FILES[0].parents[2] / "doc/source/alarms-and-bills.rst"
    named = set(re.findall(r"``([\w-]+\.json)``", page.read_text()))
    assert named == {path.name for path in FILES}
