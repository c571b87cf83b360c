# SPDX-License-Identifier: Apache-2.0
"""Every query for Gnocchi, as Grafana's plugin and reports ask it."""

import contextlib
import json
import math
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from ceilometer.publisher.gnocchi import GnocchiPublisher
from ceilometer.sample import Sample

from ceilometer_perf.meters import (
    CULPRIT,
    METERS,
    PRESSURES,
    SCHED_DELAY,
    VICTIM,
)
from ceilometer_perf.panels.table import DASHBOARDS
from ceilometer_perf.report.answers import Answers
from tests import warm
from tests.chain.agents import Notification
from tests.chain.chain import IN_PROCESS, LATE, guests
from tests.chain.expected import timestamp
from tests.chain.gnocchi import Gnocchi
from tests.chain.postgresql import PostgreSQL
from tests.functional.agent import Agent, wait_for
from tests.functional.helper import HELPER
from tests.lab import Guest, Lab
from tests.lab.ceilometer import configuration
from tests.lab.resctrl.hardware import INTEL
from tools import dashboards, gnocchi_query

COMMAND = Path(sys.executable).with_name("ceilometer-perf")
#: Cycles of samples, and the seconds between them that they are given: a rate
#: by the minute needs minutes that are over, for which nobody waits.
CYCLES, INTERVAL = 6, 30
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


@dataclass(frozen=True)
class Site:
    """Gnocchi has what the guests' agent sent, as Ceilometer publishes it."""

    gnocchi: Gnocchi
    config: Path  # what Ceilometer may read it by
    guests: Sequence[Guest]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(fake_pmu=True, resctrl=INTEL))
        postgresql = PostgreSQL(lab.folder / "postgresql")
        stack.callback(postgresql.server.stop)
        postgresql.start()
        sent, started = polled(lab, tmp_path_factory.mktemp("agent"))
        postgresql.create()
        gnocchi = Gnocchi(lab.folder / "gnocchi", postgresql)
        stack.callback(gnocchi.stop)
        gnocchi.start()
        mapping = lab.folder / "gnocchi_resources.yaml"
        Notification.map_meters(mapping)
        ceilometer = Notification(
            lab.folder / "ceilometer", IN_PROCESS, gnocchi.url, mapping
        )
        gnocchi.wait()
        ceilometer.upgrade()
        publish(ceilometer, mapping, slowly([*sent, *others(sent)]))
        wait_for(lambda: gnocchi.backlog() == 0, 180, "metricd's work")
        yield Site(gnocchi, ceilometer.config, started)


def polled(
    lab: Lab, folder: Path
) -> tuple[list[dict[str, Any]], Sequence[Guest]]:
    """The samples of some cycles; their guests, which are off by now."""
    started = lab.start_all(guests())
    paused = started[-1]
    perf = f"""\
coverage_floor = 0.2
resctrl_path = {lab.resctrl_path}
privsep_helper = {HELPER} --config-file {folder}/ceilometer.conf
"""
    last = SCHED_DELAY.name  # of those that the lab has

    def wait(agent: Agent, cycles: int) -> None:
        for guest in started:
            agent.wait_for_samples(
                cycles, seconds=90, counter_name=last, resource_id=guest.uuid
            )

    meters = tuple(meter.name for meter in METERS)
    with Agent(folder, lab, meters=meters, perf=perf) as agent:
        wait(agent, 1)
        lab.domain(paused).setPerfEvents({LATE: True})
        wait(agent, 1 + CYCLES)
    for guest in started:
        lab.destroy(guest)
    return agent.samples(), started


def others(samples: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Samples that the lab has not: no cgroups, too short a history."""
    for sample in samples:
        if sample["counter_name"] == CULPRIT.name:
            for meter in (*PRESSURES.values(), VICTIM):
                yield {
                    **sample,
                    "counter_name": meter.name,
                    "counter_type": meter.type,
                    "counter_unit": meter.unit,
                }


def slowly(samples: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """As of an agent that polls every ``INTERVAL``, until now.

    The guests did the same all the time that passed between two samples.
    """
    now, last = time.time(), max(map(timestamp, samples))
    first: dict[tuple[str, str], float] = {}
    for sample in samples:
        at = datetime.fromtimestamp(
            now - INTERVAL * (last - timestamp(sample)), UTC
        )
        volume = sample["counter_volume"]
        if sample["counter_type"] == "cumulative":
            key = sample["resource_id"], sample["counter_name"]
            begun = first.setdefault(key, volume)
            volume = begun + INTERVAL * (volume - begun)
        yield {
            **sample,
            "timestamp": at.replace(tzinfo=None).isoformat(),
            "counter_volume": volume,
        }


def publish(
    ceilometer: Notification, mapping: Path, messages: Iterable[dict[str, Any]]
) -> None:
    """As the notification agent does; test_chain has that one."""
    conf = configuration(ceilometer.config)
    options = (
        f"enable_filter_project=false&resources_definition_file={mapping}"
    )
    publisher = GnocchiPublisher(conf, urlsplit(f"gnocchi://?{options}"))
    publisher.publish_samples(
        [
            Sample(
                name=each["counter_name"],
                type=each["counter_type"],
                unit=each["counter_unit"],
                volume=each["counter_volume"],
                user_id=each["user_id"],
                project_id=each["project_id"],
                resource_id=each["resource_id"],
                timestamp=each["timestamp"],
                resource_metadata=each["resource_metadata"],
            )
            for each in messages
        ]
    )


@pytest.fixture(scope="module")
def gnocchi(site: Site) -> Gnocchi:
    return site.gnocchi


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
    chosen = {"project": "%", "interval": str(INTERVAL)}
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
    answer = asked(gnocchi, target, chosen)
    found = [v for v in values(answer) if math.isfinite(v)]
    assert found
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


def report(site: Site, *words: str | Path) -> str:
    """What the command says, of what Ceilometer may read."""
    done = warm.run(
        [COMMAND, "report", "--from", "gnocchi",
         "--config-file", site.config,
         "--interval", f"{INTERVAL}s", "--window", "10m", *words],
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_report_has_every_panel(site: Site, tmp_path: Path) -> None:
    page, data = tmp_path / "report.html", tmp_path / "data.json"
    panels = [p for d in DASHBOARDS for p in d.panels if p.gnocchi]
    said = report(site, "--save", data, page)
    assert said == f"{page}: {len(panels)} panels\n"
    names = {guest.name for guest in site.guests}
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
    for series in answers.series[cpus.key(page_of_one, "lines")]:
        assert all(value < 1.1 for _, value in series.points)


def test_a_report_of_one_instance(site: Site, tmp_path: Path) -> None:
    page, data = tmp_path / "report.html", tmp_path / "data.json"
    guest = site.guests[0]
    said = report(site, "--page", "instance", "--instance", guest.uuid,
                  "--save", data, page)  # fmt: skip
    assert said == f"{page}: 10 panels\n"
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
    site: Site, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    said = report(site, *words, tmp_path / "report.html")
    assert says in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
