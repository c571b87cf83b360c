# SPDX-License-Identifier: Apache-2.0
"""Every query of the dashboards for Gnocchi, as Grafana's plugin asks it."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from ceilometer_perf.meters import METERS
from tests.chain.chain import Chain
from tests.chain.gnocchi import Gnocchi
from tests.functional.agent import wait_for
from tools import dashboards, gnocchi_query

TIMEOUT = 30  # seconds
ADMIN = ("admin", "")
#: How the plugin is asked for what there is to choose from.
RESOURCES = re.compile(r"resources\((\w+), \$(\w+), (\w+), (.+)\)")


def targets() -> Iterator[Any]:
    """The queries as Grafana has them."""
    for path in sorted(dashboards.ETC.glob("gnocchi-*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                name = f"{path.stem}: {panel['title']}, {target['refId']}"
                yield pytest.param(target, id=name)


@pytest.fixture(scope="module")
def gnocchi() -> Iterator[Gnocchi]:
    """It has the samples of some cycles."""
    with Chain(prometheus=False) as chain:
        assert chain.gnocchi
        chain.wait_for_cycles(4)
        uuid = chain.guests[0].uuid
        # The last of a cycle's samples.
        wait_for(
            lambda: METERS[-1].name in known(chain, uuid), 60, "all meters"
        )
        yield chain.gnocchi


def known(chain: Chain, uuid: str) -> dict[str, str]:
    assert chain.gnocchi
    return chain.gnocchi.metrics(uuid)


def post(gnocchi: Gnocchi, path: str, body: Any, **parameters: Any) -> Any:
    answer = requests.post(
        f"{gnocchi.url}/v1/{path}",
        params=parameters,
        json=body,
        auth=ADMIN,
        timeout=TIMEOUT,
    )
    assert answer.ok, answer.text
    return answer.json()


def choices(gnocchi: Gnocchi, name: str, chosen: dict[str, str]) -> list[str]:
    """What a variable can be set to."""
    match = RESOURCES.fullmatch(gnocchi_query.VARIABLES[name])
    assert match
    kind, shown, value, search = match.groups()
    found = post(
        gnocchi,
        f"search/resource/{kind}",
        None,
        filter=filled(search, chosen),
        attrs=[shown, value],
    )
    return sorted({each[value] for each in found})


def filled(text: str, chosen: dict[str, str]) -> str:
    for name, value in chosen.items():
        text = text.replace(f"${name}", value)
    return text


def asked(
    gnocchi: Gnocchi, target: dict[str, Any], chosen: dict[str, str]
) -> Any:
    """What Gnocchi answers to what the plugin asks."""
    grouped = {"groupby": target["groupby"]} if target["groupby"] else {}
    return post(
        gnocchi,
        "aggregates",
        {
            "operations": filled(target["operations"], chosen),
            "search": filled(target["resource_search"], chosen),
            "resource_type": target["resource_type"],
        },
        details="true",
        fill=target["fill"],
        needed_overlap=target["needed_overlap"],
        **grouped,
    )


def values(answer: Any) -> Iterator[float]:
    """All numbers in it, of one group or of several, of any resource."""
    if isinstance(answer, list) and answer and len(answer) == 3:
        at, _, value = answer
        if isinstance(at, str):
            yield float(value)
            return
    if isinstance(answer, list):
        for each in answer:
            yield from values(each)
    elif isinstance(answer, dict):
        for key, each in answer.items():
            if key != "references":
                yield from values(each)


@pytest.fixture(scope="module")
def chosen(gnocchi: Gnocchi) -> dict[str, str]:
    """What somebody chooses who takes the first of everything."""
    chosen = {"project": "%", "interval": "2"}
    chosen["host"] = choices(gnocchi, "host", chosen)[0]
    vms = choices(gnocchi, "vm", chosen)
    assert len(vms) == 3
    # One that is busy.
    chosen["vm"] = vms[0]
    return chosen


@pytest.mark.parametrize("target", targets())
def test_every_query_returns_data(
    gnocchi: Gnocchi, chosen: dict[str, str], target: dict[str, Any]
) -> None:
    def numbers() -> list[float]:
        answer = asked(gnocchi, target, chosen)
        return [v for v in values(answer) if math.isfinite(v)]

    found = wait_for(numbers, 60, target["operations"])
    assert all(value >= 0 for value in found)


def test_a_legend_names_what_there_is(
    gnocchi: Gnocchi, chosen: dict[str, str]
) -> None:
    """The plugin fills it in from the resource, or from the group."""
    for param in targets():
        (target,) = param.values
        (attribute,) = re.findall(r"\$(\w+)", target["label"])
        answer = asked(gnocchi, target, chosen)
        if target["groupby"]:
            assert all(attribute in each["group"] for each in answer)
        else:
            assert all(attribute in each for each in answer["references"])
