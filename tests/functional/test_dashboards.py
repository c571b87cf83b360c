# SPDX-License-Identifier: Apache-2.0
"""Every query of every panel, on what the real agent exports."""

import contextlib
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.host.processes import read
from ceilometer_perf.host.topology import Topology
from ceilometer_perf.neighbours.history import NEEDED, History
from tests import warm
from tests.chain.prometheus import Prometheus
from tests.chain.server import LOOPBACK, free_ports
from tests.functional.agent import Agent, wait_for
from tests.functional.helper import HELPER
from tests.functional.machine import has_used
from tests.lab import Guest, Hardware, Lab
from tools import dashboards

COMMAND = Path(sys.executable).with_name("ceilometer-perf")
HOST = "compute-1"
ENOUGH = 1.5  # seconds of CPU time
GUESTS = (
    Guest("busy", "busy", vcpus=2),
    Guest("quiet", "idle"),
    Guest("live", "spin", events=()),
)
METERS = ("perf.*", "cpu_l3_cache*", "memory.bandwidth.*")
#: The lab's machines have no cgroups.
UNKNOWN = "ceilometer_perf_psi_"
#: Of the groups of rules that build on others' series.
RECORDED_LAST = (
    "host:perf_ipc:ratio",
    "project:memory_bandwidth:bytes_per_second",
    "project:l3:bytes",
)
CHOSEN = {"$host": HOST, "$project": ".*", "$vm": ".*"}


def targets() -> Iterator[Any]:
    """The queries as Grafana has them."""
    for path in sorted(dashboards.ETC.glob("prometheus-*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                name = f"{path.stem}: {panel['title']}, {target['refId']}"
                yield pytest.param(target["expr"], id=name)


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """It has asked the agent for some cycles."""
    folder = tmp_path_factory.mktemp("dashboards")
    exporter = f"{LOOPBACK}:{free_ports(1)[0]}"
    prometheus = Prometheus(folder / "prometheus", {HOST: exporter})
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(
            Lab(fake_pmu=True, resctrl=Hardware(settling=0.1))
        )
        lab.start_all(GUESTS)
        # Its counters see none of its vCPUs; no more CPU time is needed to
        # tell.
        has_used(lab, GUESTS[2], ENOUGH)
        parameters = dict.fromkeys(("task_clock", "cpu_cycles"), True)
        lab.domain(GUESTS[2]).setPerfEvents(parameters)
        lab.domain(GUESTS[2]).suspend()
        know_what_is_usual(lab, GUESTS[0], folder / "agent")
        with Agent(
            folder / "agent",
            lab,
            meters=METERS,
            perf=f"resctrl_path = {lab.resctrl_path}\n"
            f"privsep_helper = {HELPER} "
            f"--config-file {folder}/agent/ceilometer.conf",
            exporter=exporter,
        ) as agent:
            agent.wait_for_samples(8, counter_name="perf.hw.cpu_cycles")
            # Not sooner: the first cycle may last long, and whoever asks amid
            # it has one meter of it and not yet the other.
            prometheus.start()
            stack.callback(prometheus.server.stop)
            prometheus.server.wait()
            wait_for(
                lambda: all(map(prometheus.query, RECORDED_LAST)),
                60,
                "rates are recorded",
            )
            yield prometheus
            assert agent.errors() == []


def know_what_is_usual(lab: Lab, guest: Guest, folder: Path) -> None:
    """As an agent of before had learned it, for half an hour.

    So slow, that whatever it costs now is no more than usual: no victim.
    """
    process = read(Path("/proc"), lab.qemu_pid(guest))
    assert process is not None
    history = History()
    caches = set(Topology().l3.values())
    for number in range(guest.vcpus + 1):
        for each in itertools.combinations(sorted(caches), number):
            for _ in range(NEEDED):
                history.add((0, ",".join(map(str, each))), 1e6)
    life = {"process": process.identity, "cpi": {}, "stretch": history.saved()}
    usual = {"most": {}, "lives": {guest.uuid: life}}
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    folder.mkdir()
    (folder / "neighbours.json").write_text(
        json.dumps({"boot": boot, "usual": usual})
    )


def ratios(prometheus: Prometheus, series: str) -> dict[str, float]:
    """By what a series is called in a legend."""
    return {
        each["metric"].get("resource_name", ""): float(each["value"][1])
        for each in prometheus.query(series)
    }


@pytest.mark.parametrize("promql", targets())
def test_every_query_returns_data(prometheus: Prometheus, promql: str) -> None:
    for variable, value in CHOSEN.items():
        promql = promql.replace(variable, value)
    if UNKNOWN in promql:
        assert prometheus.query(promql) == []
        return
    series = wait_for(lambda: prometheus.query(promql), 30, promql)
    values = [float(each["value"][1]) for each in series]
    assert all(math.isfinite(value) and value >= 0 for value in values)


def name(guest: Guest) -> str:
    """In a legend."""
    return f"{guest.name}:{guest.domain_name}"


@pytest.mark.parametrize(
    ("series", "value"),
    [("vm:perf_ipc:ratio", 1.5), ("vm:perf_cache_miss:ratio", 0.2)],
)
def test_a_recorded_ratio_is_the_made_up_pmus(
    prometheus: Prometheus, series: str, value: float
) -> None:
    # Amid a cycle one meter is of this cycle, the other of the one before,
    # which matters less with each.
    def ratio() -> bool:
        found = ratios(prometheus, series).get(name(GUESTS[0]))
        return found == pytest.approx(value, rel=0.05)

    wait_for(ratio, 60, f"{series} of {value}")


def test_the_recorded_series_are_right(prometheus: Prometheus) -> None:
    def rate(guest: Guest) -> float:
        return ratios(prometheus, "vm:perf_cpu_cycles:rate10m")[name(guest)]

    busy, quiet, live = GUESTS
    # Of what is withheld there is no rate, whatever libvirt says of it.
    assert name(live) not in ratios(prometheus, "vm:perf_cpus:rate10m")
    assert ratios(prometheus, "vm:perf_withheld:count") == {
        name(busy): 0, name(quiet): 0, name(live): 2,
    }  # fmt: skip
    # Both have booted within the window, and one goes on working.
    wait_for(
        lambda: rate(busy) > 10 * rate(quiet), 60, "the busy one stands out"
    )
    (up,) = prometheus.query("up")
    assert up["metric"]["instance"] == HOST


def test_it_says_whose_counters_are_withheld(prometheus: Prometheus) -> None:
    def pending() -> list[str]:
        found = prometheus.query('ALERTS{alertname="CountersWithheld"}')
        return [each["metric"]["resource"] for each in found]

    assert wait_for(pending, 30, "the alert") == [GUESTS[2].uuid]


def test_every_rule_can_be_evaluated(prometheus: Prometheus) -> None:
    rules = wait_for(prometheus.rules, 30, "all rules were evaluated")
    assert {rule["name"]: rule.get("lastError", "") for rule in rules} == {
        rule["name"]: "" for rule in rules
    }


def test_a_report_has_every_panel_and_says_which_is_empty(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    page, data = tmp_path / "report.html", tmp_path / "data.json"
    panels = "39 panels, 1 without data: Pressure by instance"
    said = report("--url", prometheus.url, "--window", "2m",
                  "--save", data, page)  # fmt: skip
    assert said == f"{page}: {panels}\n"
    text = page.read_text()
    again = tmp_path / "again.html"
    said = report("--from", "file", "--data", data, again)
    assert said == f"{again}: {panels}\n"
    assert f"busy:{GUESTS[0].domain_name}" in text
    assert f"busy:{GUESTS[0].domain_name}" in again.read_text()


def test_a_report_of_one_instance(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    said = report("--url", prometheus.url, "--window", "2m",
                  "--page", "instance", "--instance", GUESTS[0].uuid,
                  page)  # fmt: skip
    assert said == f"{page}: 10 panels\n"
    assert f"busy:{GUESTS[0].domain_name}" in page.read_text()
    assert f"quiet:{GUESTS[1].domain_name}" not in page.read_text()


def report(*arguments: str | Path) -> str:
    done = warm.run([COMMAND, "report", *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout
