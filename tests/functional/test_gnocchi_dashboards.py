# SPDX-License-Identifier: Apache-2.0
"""Every query for Gnocchi, as Grafana's plugin and reports ask it."""

import json
import math
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ceilometer_perf.meters import SCHED_DELAY
from ceilometer_perf.panels.table import DASHBOARDS
from ceilometer_perf.report.answers import Answers
from tests import warm
from tests.chain.chain import Chain
from tests.chain.gnocchi import Gnocchi
from tests.functional.agent import wait_for
from tools import dashboards, gnocchi_query

COMMAND = Path(sys.executable).with_name("ceilometer-perf")
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
def chain() -> Iterator[Chain]:
    """Its Gnocchi has the samples of some cycles."""
    with Chain(prometheus=False, interval=4) as chain:
        assert chain.gnocchi
        chain.wait_for_cycles(2)
        # A rate by the minute has to have a minute before it.
        minutes = chain.polling.sent()[0].at // 60
        time.sleep(max(0, (minutes + 2) * 60 + 3 - time.time()))
        chain.wait_for_cycles(1)
        chain.stop_polling()
        for guest in chain.guests:
            chain.lab.destroy(guest)
        uuid = chain.guests[0].uuid
        # The last of a cycle's samples.
        wait_for(
            lambda: SCHED_DELAY.name in known(chain, uuid), 180, "all meters"
        )
        yield chain


@pytest.fixture(scope="module")
def gnocchi(chain: Chain) -> Gnocchi:
    assert chain.gnocchi
    return chain.gnocchi


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


def report(chain: Chain, *words: str | Path) -> str:
    """What the command says, of what Ceilometer may read."""
    assert chain.notification
    done = warm.run(
        [COMMAND, "report", "--from", "gnocchi",
         "--config-file", chain.notification.config,
         "--interval", "2s", "--window", "10m", *words],
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_report_has_every_panel(chain: Chain, tmp_path: Path) -> None:
    page, data = tmp_path / "report.html", tmp_path / "data.json"
    panels = [p for d in DASHBOARDS for p in d.panels if p.gnocchi]
    # A span of a minute has to be over, and Gnocchi done with it.
    wait_for(
        lambda: (
            report(chain, "--save", data, page)
            == f"{page}: {len(panels)} panels\n"
        ),
        300,
        "data for all panels",
        every=3,
    )
    names = {guest.name for guest in chain.guests}
    text = page.read_text()
    assert all(name in text for name in names)
    answers = Answers.load(data)
    assert answers.step == 60
    for measures, kept in answers.series.items():
        assert kept, measures
        for series in kept:
            labels = series.labels
            assert "id" not in labels or labels["display_name"] in names
            assert all(value >= 0 for _, value in series.points)
    # A guest of one vCPU that spins uses one CPU at most.
    page_of_one = DASHBOARDS[1]
    (cpus,) = page_of_one.panels[0].gnocchi
    for series in answers.series[cpus.key(page_of_one)]:
        assert all(value < 1.1 for _, value in series.points)


def test_a_report_of_one_instance(chain: Chain, tmp_path: Path) -> None:
    page, data = tmp_path / "report.html", tmp_path / "data.json"
    guest = chain.guests[0]
    said = report(chain, "--page", "instance", "--instance", guest.uuid,
                  "--save", data, page)  # fmt: skip
    assert said == f"{page}: 8 panels\n"
    assert {
        series.labels["display_name"]
        for kept in Answers.load(data).series.values()
        for series in kept
    } == {guest.name}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--granularity", "5m"), "does not keep, for every instance, "),
        (("--granularity", "7s"), "policies', 1 s, 60 s, 300 s, 3600 s"),
        (("--host", "no 'such' host", "--page", "host"), "no data"),
        (("--project", "nobody's", "--page", "overview"), "no data"),
    ],
)
def test_what_gnocchi_does_not_have_is_one_line(
    chain: Chain, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    said = report(chain, *words, tmp_path / "report.html")
    assert says in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
