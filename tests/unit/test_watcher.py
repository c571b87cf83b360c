# SPDX-License-Identifier: Apache-2.0
"""Audits with our strategy, by Watcher's own decision engine."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_prometheus_rules import exported, promtool
from tests.unit.watcher_world import (
    Asked,
    Guest,
    Host,
    Planned,
    Server,
    Watcher,
    World,
    server,
)

WEB, NOISY, LOUD, DB, QUIET = (
    f"{n}0000000-0000-4000-8000-000000000000" for n in range(1, 6)
)
HARMED, SURE, LESS_SURE = (0.3,) * 3, (0.9,) * 3, (0.5,) * 3
SOURCES = ("gnocchi", "prometheus", "aetos")

#: A victim and two culprits on one host; another host is empty.
WORLD = World(
    {"busy": Host(), "free": Host()},
    {
        WEB: Guest("busy", victim=HARMED, culprit=(0.0,) * 3),
        NOISY: Guest("busy", victim=(0.0,) * 3, culprit=SURE),
        LOUD: Guest("busy", culprit=LESS_SURE),
    },
)
NOBODY = Planned("SUCCEEDED")


def of(uuid: str, source: str = "busy", target: str = "free") -> Planned:
    return Planned("SUCCEEDED", {uuid: (source, target)})


def guests(**changed: Any) -> World:
    """Who is what, by name."""
    names = {"web": WEB, "noisy": NOISY, "loud": LOUD}
    now = {
        names[name]: replace(WORLD.guests[names[name]], **what)
        for name, what in changed.items()
    }
    return replace(WORLD, guests={**WORLD.guests, **now})


def hosts(**changed: Host) -> World:
    return replace(WORLD, hosts={**WORLD.hosts, **changed})


def scope(*rules: dict[str, Any]) -> Asked:
    return Asked(scope=({"compute": list(rules)},))


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    with server() as made:
        yield made


@pytest.fixture(scope="module")
def watcher(
    served: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watcher]:
    made = Watcher(str(tmp_path_factory.mktemp("watcher")), served.url)
    yield made
    made.stop()


@pytest.fixture
def audit(watcher: Watcher, served: Server) -> Any:
    served.broken = False
    served.asked.clear()

    def run(world: World, asked: Asked | None = None) -> Planned:
        served.world = world
        return watcher.audit(world, asked or Asked())

    return run


@pytest.mark.parametrize("source", SOURCES)
def test_the_culprit_leaves(audit: Any, source: str) -> None:
    assert audit(WORLD, Asked(datasource=source)) == of(NOISY)


@pytest.mark.parametrize("source", SOURCES)
def test_or_the_victim(audit: Any, source: str) -> None:
    asked = Asked({"migrate": "victim"}, datasource=source)
    assert audit(WORLD, asked) == of(WEB)


@pytest.mark.parametrize("source", SOURCES)
def test_scores_of_long_ago_are_none(audit: Any, source: str) -> None:
    asked = Asked(datasource=source)
    assert audit(replace(WORLD, age=600), asked) == NOBODY


def test_the_last_span_of_five_minutes_is_fresh(audit: Any) -> None:
    assert audit(replace(WORLD, age=300)) == of(NOISY)


@pytest.mark.parametrize(
    "world",
    [
        guests(noisy={"culprit": ()}, loud={"culprit": ()}),
        guests(noisy={"culprit": (0.34,) * 3}, loud={"culprit": ()}),
        guests(web={"victim": ()}),
        guests(web={"victim": (0.14,) * 3}),
        guests(noisy={"state": "stopped"}, loud={"state": "stopped"}),
        guests(web={"state": "stopped"}),
        guests(noisy={"host": "free"}, loud={"host": "free"}),
        replace(WORLD, hosts={}, guests={}),
    ],
    ids=[
        "no culprit", "hardly a culprit", "no victim", "hardly a victim",
        "stopped culprits", "a stopped victim", "not on one host", "no hosts",
    ],
)  # fmt: skip
def test_nobody_leaves_without_a_victim_and_a_culprit(
    audit: Any, world: World
) -> None:
    for role in ("culprit", "victim"):
        assert audit(world, Asked({"migrate": role})) == NOBODY


def test_nobody_is_a_culprit_of_its_own_harm(audit: Any) -> None:
    alone = {WEB: Guest("busy", victim=HARMED, culprit=SURE)}
    assert audit(replace(WORLD, guests=alone)) == NOBODY
    both = guests(noisy={"victim": HARMED})
    assert audit(both) == of(NOISY)


def test_thresholds_are_parameters(audit: Any) -> None:
    for changed, left in (
        ({"culprit_threshold": 0.9}, of(NOISY)),
        ({"culprit_threshold": 0.91}, NOBODY),
        ({"victim_threshold": 0.3}, of(NOISY)),
        ({"victim_threshold": 0.31}, NOBODY),
    ):
        assert audit(WORLD, Asked(changed)) == left


def test_harm_must_last(audit: Any) -> None:
    passing = guests(web={"victim": (0.0, 0.3, 0.3)})
    assert audit(passing) == NOBODY
    assert audit(passing, Asked({"period": 300})) == of(NOISY)
    # What was before the period is of no interest.
    assert audit(guests(web={"victim": (0.0, *HARMED)})) == of(NOISY)


@pytest.mark.parametrize("known", [1, 2, 3])
def test_who_has_no_scores_of_before_is_not_known_to_last(
    audit: Any, known: int
) -> None:
    """As after a start of its host's agent; the first span may be missing."""
    lasting = known > 1
    for role, who in (("culprit", "noisy"), ("victim", "web")):
        scores = {"noisy": SURE, "web": HARMED}[who][:known]
        world = guests(**{who: {role: scores}, "loud": {"culprit": ()}})
        assert audit(world) == (of(NOISY) if lasting else NOBODY)


def test_measures_are_of_the_granularity_asked_for(audit: Any) -> None:
    """There are none of a minute."""
    assert audit(WORLD, Asked({"granularity": 60})) == NOBODY


@pytest.mark.parametrize(
    "free",
    [
        Host(vcpus=1), Host(memory=2047), Host(disk=9),
        Host(state="down"), Host(status="disabled"),
    ],
    ids=str,
)  # fmt: skip
def test_a_host_must_have_room(audit: Any, free: Host) -> None:
    assert audit(hosts(free=free)) == NOBODY


def test_what_is_there_takes_room(audit: Any) -> None:
    world = replace(WORLD, guests={**WORLD.guests, DB: Guest("free", vcpus=7)})
    assert audit(world) == NOBODY


def test_the_next_leaves_if_the_first_finds_no_room(audit: Any) -> None:
    assert audit(guests(noisy={"memory": 9000})) == of(LOUD)


@pytest.mark.parametrize(
    "what",
    [
        {"instances": [{"uuid": NOISY}]},
        {"projects": [{"uuid": "70726976-0000-4000-8000-000000000000"}]},
    ],
    ids=lambda what: next(iter(what)),
)
def test_who_is_excluded_stays(audit: Any, what: dict[str, Any]) -> None:
    mine = guests(noisy={"project": "70726976-0000-4000-8000-000000000000"})
    assert audit(mine, scope({"exclude": [what]})) == of(LOUD)


def test_a_victim_may_be_excluded(audit: Any) -> None:
    """From migrations, not from help."""
    excluded = scope({"exclude": [{"instances": [{"uuid": WEB}]}]})
    assert audit(WORLD, excluded) == of(NOISY)
    victims = replace(excluded, parameters={"migrate": "victim"})
    assert audit(WORLD, victims) == NOBODY


@pytest.mark.parametrize(
    "rule",
    [
        {"exclude": [{"compute_nodes": [{"name": "free"}]}]},
        {"exclude": [{"host_aggregates": [{"name": "gpu"}]}]},
        {"host_aggregates": [{"name": "everything"}]},
    ],
    ids=str,
)
def test_only_hosts_of_the_scope(audit: Any, rule: dict[str, Any]) -> None:
    world = hosts(free=Host(aggregate="gpu"))
    assert audit(world) == of(NOISY)
    assert audit(world, scope(rule)) == NOBODY
    roomy = replace(world, hosts={**world.hosts, "other": Host()})
    assert audit(roomy, scope(rule)) == of(NOISY, target="other")


def test_the_least_used_host_is_taken(audit: Any) -> None:
    world = hosts(big=Host(vcpus=64), small=Host(vcpus=4))
    used = {
        DB: Guest("free", vcpus=2),
        QUIET: Guest("big", vcpus=8),
        LOUD: Guest("small"),
    }
    world = replace(world, guests={**world.guests, **used})
    assert audit(world) == of(NOISY, target="big")


def test_one_leaves_each_host_and_each_for_another(audit: Any) -> None:
    second = {
        DB: Guest("busy-too", victim=(0.5,) * 3),
        QUIET: Guest("busy-too", culprit=LESS_SURE),
    }
    world = hosts(**{"busy-too": Host()})
    world = replace(world, guests={**world.guests, **second})
    # The worse of the two first.
    assert audit(world) == of(QUIET, source="busy-too")
    world = replace(world, hosts={**world.hosts, "last": Host()})
    assert audit(world) == Planned(
        "SUCCEEDED",
        {QUIET: ("busy-too", "free"), NOISY: ("busy", "last")},
    )


def test_victims_are_asked_for_only_beside_culprits(
    audit: Any, served: Server
) -> None:
    """A request for each instance to Gnocchi."""
    world = replace(WORLD, guests={**WORLD.guests, DB: Guest("free")})
    audit(world)
    assert [DB in path for path in served.asked].count(True) == 1
    assert len(served.asked) == 4 + 3


@pytest.mark.parametrize("source", ["prometheus", "aetos"])
def test_an_audit_fails_if_its_source_does(
    audit: Any, served: Server, source: str
) -> None:
    served.broken = True
    made = audit(WORLD, Asked(datasource=source))
    error = f"Datasource {source} is not available."
    assert made == Planned("FAILED", error=error)


def test_it_needs_nothing_but_watcher(watcher: Watcher) -> None:
    """It is installed without dependencies."""
    ours = {"ceilometer", "libvirt", "rich"}  # the others Watcher has, too
    assert watcher.call("imported") & ours == set()


def test_parameters_are_checked(watcher: Watcher) -> None:
    for wrong in (
        {"migrate": "both"}, {"victim_threshold": 0},
        {"culprit_threshold": 1.1}, {"period": 0}, {"granularity": 0},
        {"treshold": 0.5},
    ):  # fmt: skip
        assert not watcher.call("is_valid", wrong)
    assert watcher.call("is_valid", {})


def test_parameters_are_explained(watcher: Watcher) -> None:
    """With their defaults."""
    page = Path(__file__).parents[2] / "doc" / "source" / "watcher.rst"
    text = page.read_text()
    for name, default in watcher.call("defaults").items():
        assert f"* - ``{name}``\n     - ``{default}``\n" in text


#: Samples of each minute, and what the query says in the eleventh.
SERIES = {
    'resource="lasting",instance="a"': ("0.8x10", 0.8),
    'resource="lowest",instance="a"': ("0 0.5 0.8x8", 0.5),
    'resource="no longer",instance="a"': ("0.8x7", None),
    'resource="missed once",instance="a"': ("0.8x9 _", 0.8),
    'resource="missed first",instance="a"': ("_ _ 0.8x8", 0.8),
    'resource="missed in between",instance="a"': ("0.8x4 _ _ 0.8x4", 0.8),
    'resource="new",instance="a"': ("_ _ _ 0.8x7", None),
    'resource="moved",instance="a"': ("0.8x10", 0.0),
    'resource="moved",instance="b"': ("_x8 0 0", None),
}


def answered(period: int, watcher: Watcher) -> dict[str, Any]:
    """Prometheus takes the query of an audit with this period."""
    query = watcher.call("query", period)
    known = {"labels": "{}", "value": 1}
    expr = f"count({query}) >= bool 1"
    return {"expr": expr, "eval_time": "10m", "exp_samples": [known]}


def test_what_prometheus_says(watcher: Watcher, tmp_path: Path) -> None:
    expected = [
        {"labels": f"{{{labels.partition(',')[0]}}}", "value": value}
        for labels, (_, value) in SERIES.items()
        if value is not None
    ]
    query = watcher.call("query", 570)
    name = "ceilometer_perf_neighbour_culprit"
    assert name in exported()
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f"{name}{{{labels}}}", "values": values}
            for labels, (values, _) in SERIES.items()
        ],
        "promql_expr_test": [
            {"expr": query, "eval_time": "10m", "exp_samples": expected},
            *map(answered, (1, 10, 119, 120, 121, 600), repeat(watcher)),
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"tests": [test]}))
    done: subprocess.CompletedProcess[str] = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
