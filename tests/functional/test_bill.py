# SPDX-License-Identifier: Apache-2.0
"""The bill is right: from counters through Gnocchi to CloudKitty.

The counters are made up. The gate, Gnocchi with its aggregation, and
CloudKitty's collector with the metrics.yml of ``etc`` are the real ones.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from aodh.evaluator import gnocchi as aodh
from ceilometer.publisher.gnocchi import GnocchiPublisher
from cloudkitty.collector.gnocchi import GnocchiCollector
from gnocchiclient.auth import GnocchiBasicPlugin
from gnocchiclient.client import Client
from keystoneauth1.session import Session
from oslo_config import cfg
from sqlalchemy import create_engine, text

from tests.chain.gnocchi import ADMIN, Gnocchi
from tests.chain.postgresql import PostgreSQL
from tests.functional.usage import Instance, Life
from tests.unit.shell import run

ROOT = Path(__file__).parents[2]
METRICS = yaml.safe_load((ROOT / "etc/cloudkitty/metrics.yml").read_text())
PAGE = (ROOT / "doc/source/alarms-and-bills.rst").read_text()
COMMANDS = PAGE.replace("\\\n", " ").splitlines()
PROJECT = "11111111-2222-3333-4444-555555555555"
POLICY = "ceilometer-perf"
CYCLES, BANDWIDTH, L3 = METRICS["metrics"]
LEVELS = {BANDWIDTH: 2.0**30, L3: 2.0**20}  # while it runs
UNITS = {CYCLES: 1.0, BANDWIDTH: 1.0, L3: 1 / 3600}  # a second of it

HOUR = 3600
PERIOD = 300
END = 3 * HOUR
ARRIVING = 1800  # seconds of samples that come at a time

FOREVER = 2.0 * END
OLD = Life(-HOUR, FOREVER, counted=1e6)
BEFORE = Life(-HOUR, 5530, counted=1e6)

INSTANCES = {
    "steady": Instance((OLD,)),
    "polled each 5 minutes": Instance((OLD,), interval=300),
    "hard reboot": Instance((BEFORE, Life(5545, FOREVER))),
    "reboots each 20 minutes": Instance(
        tuple(Life(at, at + 1195) for at in range(-600, END, 1200))
    ),
    "off for an hour": Instance((BEFORE, Life(5530 + HOUR, FOREVER))),
    "new, then deleted": Instance((Life(4000, 9000),)),
    "libvirtd restarts, hard reboot": Instance(
        (Life(-HOUR, 9010, counted=1e6), Life(9025, FOREVER)), restarts=5400
    ),
    "libvirtd and agent restart": Instance(
        (Life(-HOUR, 9010, counted=1e6), Life(9025, FOREVER)),
        restarts=5400,
        blind=(5400, 5700),
        fresh_agent=True,
    ),
    "libvirtd restarts, own counters since": Instance(
        (OLD,), restarts=5400, own=5430
    ),
    "the same, polled each 5 minutes": Instance(
        (OLD,), restarts=5400, own=5550, interval=300
    ),
    "own counters, libvirtd restarts": Instance(
        (OLD,), restarts=5400, own=-HOUR
    ),
    "live migration": Instance(
        (BEFORE, Life(5530, FOREVER, host="b")), renamed=(5530,)
    ),
    "there and back": Instance(
        (
            BEFORE,
            Life(5530, 7230, host="b"),
            Life(7230, FOREVER),
        ),
        renamed=(5530, 7230),
    ),
    "renamed at will": Instance(
        (OLD,), renamed=(4000, 4700, 5400, 6100, 6800)
    ),
    "no agent for 40 minutes": Instance((OLD,), blind=(6000, 8400)),
    "delivered twice": Instance((OLD,), twice=True),
}

#: Seconds that nobody is billed for, at most. A counter's first value bills
#: nothing, and neither does a period in which a counter restarts; what
#: the gate withholds, or no agent saw, is not billed.
LOST = {
    "steady": 60,
    "polled each 5 minutes": 300,
    "hard reboot": 60 + 300,
    "reboots each 20 minutes": 60 + END // 1200 * (300 + 60),
    "off for an hour": 60 + 300,
    "new, then deleted": 120,
    "libvirtd restarts, hard reboot": 60 + 3625 + 300,
    "libvirtd and agent restart": 60 + 3625 + 300,
    # Ours are opened in the first cycle after it and begin at nothing, as
    # after a reboot. The second is the first that publishes them.
    "libvirtd restarts, own counters since": 60 + 2 * 60 + 300,
    "the same, polled each 5 minutes": 300 + 2 * 300,
    # Its own first value is not published; the restart costs nothing.
    "own counters, libvirtd restarts": 60 + 60,
    "live migration": 60 + 300,
    "there and back": 60 + 2 * 300,
    "renamed at will": 60,
    "no agent for 40 minutes": 60 + 2400 + 60,
    # Gnocchi has forgotten what came before the first that comes again.
    "delivered twice": 60 + 60 * END // ARRIVING,
}


class Cloud:
    """Gnocchi as it is after the page was followed."""

    def __init__(self, folder: Path) -> None:
        self.database = PostgreSQL(folder / "postgresql")
        (folder / "gnocchi").mkdir()
        self.gnocchi = Gnocchi(folder / "gnocchi", self.database)
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self.begin = now - timedelta(hours=END // HOUR + 2)
        self.ids = {name: str(uuid.uuid4()) for name in INSTANCES}
        self._http = requests.Session()
        self._http.auth = (ADMIN, "")

    def start(self) -> None:
        self.database.start()
        self.database.create()
        self.gnocchi.start()
        self.gnocchi.wait()

    def stop(self) -> None:
        self.gnocchi.stop()
        self.database.server.stop()

    def at(self, seconds: float) -> datetime:
        return self.begin + timedelta(seconds=seconds)

    def command(self, line: str) -> str:
        """A line of the page; gnocchi is openstack metric without it."""
        words = shlex.split(line.replace("openstack metric", "", 1))
        done = subprocess.run(
            [Path(sys.executable).with_name("gnocchi"), *words],
            env={
                **os.environ,
                "OS_AUTH_TYPE": "gnocchi-basic",
                "GNOCCHI_USER": ADMIN,
                "GNOCCHI_ENDPOINT": self.gnocchi.url,
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self, method: str, path: str, body: Any) -> None:
        answer = self._http.request(
            method, f"{self.gnocchi.url}/v1/{path}", json=body, timeout=60
        )
        assert answer.ok, answer.text

    def settle(self) -> None:
        """Wait until metricd has worked on all."""
        deadline = time.monotonic() + 180
        while self.gnocchi.backlog():
            assert time.monotonic() < deadline, "metricd doesn't come to it"
            time.sleep(0.1)

    def date(self, uuid_: str, revisions: tuple[float, ...]) -> None:
        """Change a resource at these times, which are past."""
        url = self.database.url.replace("postgresql:", "postgresql+psycopg2:")
        with create_engine(url).begin() as sql:
            sql.execute(
                text(
                    "UPDATE resource SET revision_start = :at WHERE id = :id"
                ),
                {"at": self.at(-1), "id": uuid_},
            )
        for number, (begin, end) in enumerate(pairwise((-1, *revisions))):
            name = {"display_name": f"renamed {number}", "host": f"h{number}"}
            self.send("PATCH", f"resource/instance/{uuid_}", name)
            with create_engine(url).begin() as sql:
                sql.execute(
                    text(
                        "UPDATE resource SET revision_start = :at "
                        "WHERE id = :id"
                    ),
                    {"at": self.at(end), "id": uuid_},
                )
                sql.execute(
                    text("UPDATE resource_history SET revision_end = :at "
                         "WHERE id = :id AND revision_start = :begin"),
                    {"at": self.at(end), "id": uuid_, "begin": self.at(begin)},
                )  # fmt: skip

    def fill(self, policies: Mapping[str, str]) -> None:
        for name in INSTANCES:
            body = {
                "id": self.ids[name],
                "project_id": PROJECT,
                "started_at": self.at(-1).isoformat(),
                "host": "a",
                "flavor_id": "42",
                "flavor_name": "small",
                "display_name": name,
                "metrics": {
                    metric: {"archive_policy_name": policies[metric]}
                    for metric in METRICS["metrics"]
                },
            }
            self.send("POST", "resource/instance", body)
        samples = {n: list(i.samples(END)) for n, i in INSTANCES.items()}
        for begin in range(0, END, ARRIVING):
            self._arrive(samples, begin)
            self.settle()
            again = {n: s for n, s in samples.items() if INSTANCES[n].twice}
            self._arrive(again, begin)
        self.settle()
        for name, instance in INSTANCES.items():
            self.date(self.ids[name], instance.renamed)

    def _arrive(
        self, samples: Mapping[str, list[tuple[float, float]]], begin: int
    ) -> None:
        body = {}
        for name, each in samples.items():
            now = [s for s in each if begin <= s[0] < begin + ARRIVING]
            if not now:
                continue  # an empty list halts Gnocchi 4.7's metricd
            metrics: dict[str, list[tuple[float, float]]] = {CYCLES: now}
            for metric, level in LEVELS.items():
                metrics[metric] = [(at, level) for at, _ in now]
            body[self.ids[name]] = {
                metric: [
                    {"timestamp": self.at(at).isoformat(), "value": value}
                    for at, value in points
                ]
                for metric, points in metrics.items()
            }
        self.send("POST", "batch/resources/metrics/measures", body)

    def collect(
        self, metrics: Any, metric: str, period: int
    ) -> dict[str, list[float]]:
        """What CloudKitty would rate, for each instance and period."""
        conf = cfg.CONF
        conf([], project="cloudkitty", default_config_files=[])
        group = "collector_gnocchi"
        conf.set_override("gnocchi_auth_type", "basic", group)
        conf.set_override("gnocchi_user", ADMIN, group)
        conf.set_override("gnocchi_endpoint", self.gnocchi.url, group)
        collector = GnocchiCollector(period=period, conf=metrics)
        found: dict[str, list[float]] = {name: [] for name in self.ids}
        for begin in range(0, END, period):
            points = collector.fetch_all(
                metric, self.at(begin), self.at(begin + period), PROJECT
            )
            for name, id_ in self.ids.items():
                mine = [p.qty for p in points if p.groupby["id"] == id_]
                found[name].append(float(sum(mine)))
        return found


def command(beginning: str) -> str:
    """A line of the page."""
    (line,) = (c for c in COMMANDS if c.strip().startswith(beginning))
    return line


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    # pytest's own folders are root's; PostgreSQL's user has to pass.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = Cloud(folder)
        try:
            made.start()
            prepare(made, folder)
            yield made
        finally:
            made.stop()


def prepare(cloud: Cloud, folder: Path) -> None:
    """What the page says, and what Ceilometer does."""
    cloud.command(command("openstack metric archive-policy create"))
    line = command("ceilometer-perf gnocchi-resources").partition(" > ")[0]
    mapping = folder / "gnocchi_resources.yaml"
    mapping.write_text(run(*line.split()[1:]).out)
    resources, policies = GnocchiPublisher._load_definitions(
        None, None, str(mapping)
    )
    for policy in policies:
        cloud.send("POST", "archive_policy", policy)
    text_ = {"type": "string", "max_length": 255, "min_length": 0,
             "required": False}  # fmt: skip
    attributes = "host", "display_name", "flavor_id", "flavor_name"
    cloud.send("POST", "resource_type", {
        "name": "instance", "attributes": dict.fromkeys(attributes, text_),
    })  # fmt: skip
    (metrics,) = (
        r.metrics for r in resources if r.cfg["resource_type"] == "instance"
    )
    cloud.fill({n: m["archive_policy_name"] for n, m in metrics.items()})


@pytest.fixture(scope="module")
def cycles(cloud: Cloud) -> Mapping[str, list[float]]:
    return cloud.collect(METRICS, CYCLES, PERIOD)


@pytest.mark.parametrize("name", INSTANCES)
def test_cycles(cycles: Mapping[str, list[float]], name: str) -> None:
    """Never more than was used by then, and hardly less in the end."""
    bills, instance = cycles[name], INSTANCES[name]
    assert min(bills) >= 0
    billed = 0.0
    for number, bill in enumerate(bills, start=1):
        billed += bill
        assert billed <= instance.used(number * PERIOD) + 1e-3
    assert billed >= instance.used(END) - LOST[name] - 1e-3


def test_own_counters_bill_through_a_restart(
    cycles: Mapping[str, list[float]],
) -> None:
    hour = slice(HOUR // PERIOD, 2 * HOUR // PERIOD)
    bill = sum(cycles["own counters, libvirtd restarts"][hour])
    assert bill == pytest.approx(HOUR, rel=0.01)


def test_nobody_is_billed_while_off(
    cycles: Mapping[str, list[float]],
) -> None:
    off = slice(6000 // PERIOD, 9000 // PERIOD)
    assert set(cycles["off for an hour"][off]) == {0.0}
    assert not any(cycles["new, then deleted"][: 3900 // PERIOD])
    assert not any(cycles["new, then deleted"][9000 // PERIOD :])
    withheld = slice(5700 // PERIOD, 9000 // PERIOD)
    for name in "libvirtd restarts, hard reboot", "libvirtd and agent restart":
        # An agent that is new as well sees a little before it knows.
        assert sum(cycles[name][withheld]) < 0.1


@pytest.mark.parametrize("metric", LEVELS)
def test_levels(cloud: Cloud, metric: str) -> None:
    """A level is billed in units of a period, and for no longer."""
    bills = cloud.collect(METRICS, metric, PERIOD)
    for name, instance in INSTANCES.items():
        seen = {int(at) // PERIOD for at, _ in instance.samples(END)}
        unit = UNITS[metric] * PERIOD
        assert bills[name] == pytest.approx(
            [unit if n in seen else 0 for n in range(END // PERIOD)], 1e-6
        )


# Why metrics.yml is not simpler


def other(period: int, **extra: object) -> dict[str, Any]:
    metric = {**METRICS["metrics"][CYCLES], "metadata": []}
    metric["extra_args"] = {
        "resource_type": "instance",
        "aggregation_method": "rate:mean",
        "re_aggregation_method": "mean",
        "force_granularity": PERIOD,
        **extra,
    }
    return {"metrics": {CYCLES: metric}}


def test_a_rate_alone_bills_less_than_nothing(cloud: Cloud) -> None:
    bills = cloud.collect(other(PERIOD), CYCLES, PERIOD)
    assert min(bills["hard reboot"]) < -100_000
    assert min(bills["live migration"]) < -10_000
    # A mean of five differences is a fifth of what was used.
    assert sum(bills["steady"]) == pytest.approx(END / 5, rel=0.01)


def test_an_hour_at_once_bills_its_first_five_minutes(cloud: Cloud) -> None:
    rate = other(HOUR, aggregation_method="rate:sum")
    bills = cloud.collect(rate, CYCLES, HOUR)
    assert sum(bills["steady"]) == pytest.approx(END // HOUR * PERIOD, abs=60)


def test_renaming_makes_an_hour_that_is_summed_cheap(cloud: Cloud) -> None:
    """Gnocchi weighs each revision's part by its time once more."""
    query = "(resample sum 3600 (aggregate sum (metric METRIC_NAME rate:sum)))"
    bills = cloud.collect(other(HOUR, custom_query=query), CYCLES, HOUR)
    assert bills["steady"][1] == pytest.approx(HOUR)
    assert bills["renamed at will"][1] < HOUR / 4


# Who asks Gnocchi for levels that are now


@pytest.fixture(scope="module")
def watched(cloud: Cloud) -> str:
    """It holds 50 % of the cache now, lacks a counter, and is a victim."""
    id_ = str(uuid.uuid4())
    policy = {"archive_policy_name": POLICY}
    names = {
        "cpu_l3_cache": 2**24, "cpu_l3_cache.util": 50.0, "perf.withheld": 1,
        "perf.neighbour.victim": 0.3, "perf.neighbour.culprit": 0.5,
    }  # fmt: skip
    body = {"id": id_, "project_id": PROJECT,
            "metrics": dict.fromkeys(names, policy)}  # fmt: skip
    cloud.send("POST", "resource/instance", body)
    now = datetime.now(UTC)
    times = [now - timedelta(seconds=60 * n) for n in range(20)]
    measures = {
        name: [{"timestamp": at.isoformat(), "value": v} for at in times]
        for name, v in names.items()
    }
    cloud.send("POST", "batch/resources/metrics/measures", {id_: measures})
    cloud.settle()
    return id_


def client(cloud: Cloud) -> Any:
    plugin = GnocchiBasicPlugin(user=ADMIN, endpoint=cloud.gnocchi.url)
    return Client("1", session=Session(auth=plugin))


#: Watcher's options and Nova's have the same names, and can't be in one
#: process.
WATCHER = """
import json, sys
from types import SimpleNamespace
from gnocchiclient.auth import GnocchiBasicPlugin
from gnocchiclient.client import Client
from keystoneauth1.session import Session
from watcher.decision_engine.datasources.gnocchi import GnocchiHelper
from watcher.decision_engine.strategy.strategies.noisy_neighbor import (
    NoisyNeighbor,
)
from ceilometer_perf.watcher.scores import CULPRIT, VICTIM, Window, lowest
url, user, uuid = sys.argv[1:]
plugin = GnocchiBasicPlugin(user=user, endpoint=url)
client = Client("1", session=Session(auth=plugin))
helper = GnocchiHelper(SimpleNamespace(gnocchi=lambda: client))
instance = SimpleNamespace(uuid=uuid)
assert "instance_l3_cache_usage" in NoisyNeighbor.DATASOURCE_METRICS
print(json.dumps({
    "cache": [
        helper.get_instance_l3_cache_usage(instance, period, "mean", 300)
        for period in (300, 600)
    ],
    "culprit": lowest(helper, CULPRIT, [instance], Window(600, 300)),
    "victim": lowest(helper, VICTIM, [instance], Window(600, 300)),
}))
"""


def test_watcher_finds_what_is_known_of_an_instance(
    cloud: Cloud, watched: str
) -> None:
    """Its strategy noisy_neighbor, of this period and the last; and ours."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHER,
         cloud.gnocchi.url, ADMIN, watched],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "cache": [2**24, 2**24],
        "culprit": {watched: 0.5},
        "victim": {watched: 0.3},
    }


ANY_INSTANCE = aodh.GnocchiAggregationResourcesThresholdEvaluator
ONE_INSTANCE = aodh.GnocchiResourceThresholdEvaluator


@pytest.mark.parametrize(
    ("name", "evaluator", "threshold", "state"),
    [
        (f"{name}-gnocchi.json", kind, threshold, state)
        for name, kind, thresholds in (
            ("l3-of-any-instance", ANY_INSTANCE, (40.0, 60.0)),
            ("l3-of-one-instance", ONE_INSTANCE, (40.0, 60.0)),
            ("counters-withheld", ANY_INSTANCE, (0.0, 1.0)),
            ("slowed-down", ANY_INSTANCE, (0.1, 0.4)),
        )
        for threshold, state in zip(thresholds, ("alarm", "ok"), strict=True)
    ],
)
def test_aodh_raises_an_alarm(
    cloud: Cloud,
    watched: str,
    name: str,
    evaluator: Any,
    threshold: float,
    state: str,
) -> None:
    alarm = json.loads((ROOT / "etc/aodh" / name).read_text())
    rule = {**alarm[f"{alarm['type']}_rule"], "threshold": threshold}
    if "resource_id" in rule:
        rule["resource_id"] = watched
    aodh_one = evaluator.__new__(evaluator)  # its own client needs Keystone
    aodh_one._gnocchi_client = client(cloud)
    aodh_one.conf = SimpleNamespace(additional_ingestion_lag=0)
    assert aodh_one.evaluate_rule(rule)[0] == state
