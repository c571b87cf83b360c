# SPDX-License-Identifier: Apache-2.0
"""top: rates between two looks, in the order that is asked for."""

import csv
import dataclasses
import io
import itertools
import json
import time
from datetime import UTC, datetime

import pytest
from rich.console import Console

from ceilometer_perf import wiring
from ceilometer_perf.cli import top
from ceilometer_perf.counters.verdicts import (
    NOT_ENABLED,
    NOT_RUNNING,
    OK,
    REALTIME,
)
from ceilometer_perf.doctor import agent_conf
from ceilometer_perf.doctor.status import Instance, Status, Watch
from ceilometer_perf.meters import IPC, SCHED_DELAY_RATIO
from tests.unit.compute_host import ComputeHost, domain, host
from tests.unit.shell import Ran, run

__all__ = ["host"]

CYCLES = "perf.cpu_cycles"
THEN = datetime(2026, 1, 1, tzinfo=UTC)


def instance(name: str, cycles: float | None = None) -> Instance:
    return Instance(
        id=name, name=name, state="running", realtime=False, coverage=None,
        verdicts={}, rdt={}, is_nova=True, events=(), since=THEN,
        values={} if cycles is None else {CYCLES: cycles, IPC.key: cycles},
    )  # fmt: skip


def rates(before: Instance, after: Instance) -> dict[str, float]:
    (line,) = top.lines(Status(10.0, (before,)), Status(14.0, (after,)))
    return dict(line.rates)


def test_growth_by_time() -> None:
    assert rates(instance("a", 100), instance("a", 300))[CYCLES] == 50.0


def test_no_rate_over_a_restart_or_from_nothing() -> None:
    later = dataclasses.replace(
        instance("a", 300), since=THEN.replace(year=2027)
    )
    assert rates(instance("a", 100), later) == {}
    assert rates(instance("a"), instance("a", 300)) == {}
    assert rates(instance("b", 100), instance("a", 300)) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (999.0, "999"), (999.6, "1k"), (2.414e9, "2.41G"),
     (999.7e9, "1T"), (5e15, "5P"), (4e18, "4000P"), (None, "-")],
)  # fmt: skip
def test_counts(value: float | None, text: str) -> None:
    assert top.count(value) == text


@pytest.mark.parametrize(
    ("sort", "order"),
    [("name", "abc"), ("ipc", "bac"), ("coverage", "abc"), ("state", "abc")],
)
def test_order(sort: str, order: str) -> None:
    lines = [
        top.Line(each, {})
        for each in (instance("c"), instance("b", 3.0), instance("a", 2.0))
    ]
    made = top.table(top.Shot(lines), sort)
    names = [str(cell) for cell in made.columns[0].cells]
    assert "".join(names) == order


def show(host: ComputeHost, *argv: str) -> Ran:
    return run("top", *host.options, *argv)


def test_once(host: ComputeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    web = domain("web")
    host.has(web, domain("idle"))
    clock = itertools.count(0.0, 0.5)

    def later(_seconds: float) -> None:
        web.perf = {key: value + 10**9 for key, value in web.perf.items()}

    monkeypatch.setattr(time, "sleep", later)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    ran = show(host, "--once")
    assert (ran.code, ran.err) == (0, "")
    first, second = [
        line for line in ran.out.splitlines() if "running" in line
    ]
    assert "web" in first
    assert "idle" in second
    assert "1.000" in first


@pytest.mark.parametrize("form", ["json", "csv"])
def test_once_for_programs(
    host: ComputeHost, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    host.has(domain("web"), domain("off", id=-1))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    ran = show(host, "--once", "--sort", "name", "-f", form)
    assert (ran.code, ran.err) == (0, "")
    rows = (
        json.loads(ran.out)
        if form == "json"
        else list(csv.DictReader(io.StringIO(ran.out)))
    )
    assert [row["name"] for row in rows] == ["off", "web"]
    assert rows[1]["id"] == "uuid-web"
    assert float(rows[1]["cycles"]) == 0.0
    assert rows[0]["cycles"] in (None, "")
    assert set(rows[0]) == {"id", *top.COLUMNS}


def test_no_other_format_without_an_end(host: ComputeHost) -> None:
    ran = show(host, "-f", "json")
    assert (ran.code, ran.out) == (2, "")
    assert "--once" in ran.err


def drawn(shot: top.Shot, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(top.table(shot, "name"))
    return out.getvalue()


def test_readable_at_80_columns() -> None:
    """Names whole, no column without a value, nothing cut off."""
    name = "an-instance-with-a-name"
    verdicts = {"a": OK, "b": NOT_RUNNING, "c": NOT_ENABLED, "d": REALTIME}
    full = dataclasses.replace(
        instance(name), verdicts=verdicts, coverage=1.0,
        values={IPC.key: 1.5, SCHED_DELAY_RATIO.key: 0.25},
    )  # fmt: skip
    line = top.Line(full, {CYCLES: 1e9, "perf.instructions": 9.99e8})
    text = drawn(top.Shot([line]), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert name in text
    assert "\u2026" not in text
    for word in (
        "cyc/s",
        "ins/s",
        "IPC",
        "wait",
        "0.250",
        "cover",
        "counters",
        "1G",
        "999M",
    ):
        assert word in text
    for word in ("L3", "mem", "miss"):
        assert word not in text


def test_something_shows_at_once(
    host: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.has(domain("web"))
    conf = agent_conf.read([f"{host.folder}/ceilometer.conf"])
    parts = wiring.parts(conf, agent_conf.URIS)
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("waits"))
    first = next(top.shots(Watch(parts, {}), 2.0))
    text = drawn(first, 80)
    assert "web" in text
    assert "running" in text
    assert "measuring: rates in 2 s" in text


def test_nobody_is_there() -> None:
    assert "no instances" in drawn(top.Shot([]), 80)


def test_goes_on_without_libvirt_until_ctrl_c(
    host: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.has(domain("web"))

    def happens(_seconds: float) -> None:
        next(steps)()

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    steps = iter(
        [lambda: None, host.stop_libvirt, lambda: None, host.start_libvirt,
         lambda: None, ctrl_c]
    )  # fmt: skip
    monkeypatch.setattr(time, "sleep", happens)
    ran = show(host)
    assert (ran.code, ran.err) == (0, "")
    words = [w for w in ran.out.split() if w in ("ok", "stale")]
    assert words == ["ok", "stale", "stale", "ok", "ok"]


def test_bad_input(host: ComputeHost) -> None:
    assert show(host, "--interval", "0.1", "--once").code == 2
    assert show(host, "--sort", "colour").code == 2
    host.stop_libvirt()
    ran = show(host, "--once")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
