# SPDX-License-Identifier: Apache-2.0
"""Pollsters publish what core would, from one reading, and never raise."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from ceilometer import sample
from ceilometer.compute.pollsters import util
from oslo_config import cfg
from oslo_utils import uuidutils

from ceilometer_perf.agent import pollsters
from ceilometer_perf.meters import (
    METERS,
    NEIGHBOUR_KEYS,
    RDT_KEYS,
    WAITING_KEYS,
    Meter,
)
from ceilometer_perf.neighbours.look import NeighbourReport
from ceilometer_perf.neighbours.waiting import WaitingReport
from ceilometer_perf.reading import Moment, Published, Reading
from ceilometer_perf.wiring import Misconfigured
from tests.lab.ceilometer import configuration
from tests.unit.fakes import (
    READ_AT,
    FakeParts,
    agent_conf,
    guest,
    instance,
    rdt_report,
    report,
    unavailable,
)

VALUES = {meter.key: 100 + n for n, meter in enumerate(METERS)}
COUNTERS = {
    key: n
    for key, n in VALUES.items()
    if key not in RDT_KEYS | WAITING_KEYS | NEIGHBOUR_KEYS
}
WAITS = {key: n for key, n in VALUES.items() if key in WAITING_KEYS}
JUDGED = {key: n for key, n in VALUES.items() if key in NEIGHBOUR_KEYS}
RDT = {key: n for key, n in VALUES.items() if key in RDT_KEYS}


@pytest.fixture(scope="module")
def conf() -> cfg.ConfigOpts:
    return agent_conf()


def poll(
    conf: cfg.ConfigOpts, monitor: Any, instances: list[Any]
) -> list[sample.Sample]:
    """One cycle of all pollsters."""
    cache: dict[str, Any] = {}
    samples = []
    for meter in METERS:
        pollster = getattr(pollsters, meter.pollster)(conf)
        pollster._parts = monitor
        samples += list(pollster.get_samples(None, cache, instances))
    return samples


def about(meter: Meter) -> dict[str, Any]:
    if meter.key in COUNTERS:
        return {"source": "libvirt"}
    if meter.key in WAITS:
        return {"source": "kernel"}
    if meter.key in JUDGED:
        return {"source": "neighbours"}
    banks = {"0": VALUES[meter.key], "4": 0}
    return {"source": "resctrl", "banks": banks}


def test_samples_equal_core_s_own(conf: cfg.ConfigOpts) -> None:
    server = instance()
    monitor = FakeParts(report(12.5, {server.id: COUNTERS}))
    monitor.rdt = rdt_report(12.75, {server.id: RDT})
    waits = Published(WAITS, Moment(12.5, READ_AT), {"source": "kernel"})
    monitor.waiting = WaitingReport({server.id: waits})
    judged = Published(JUDGED, Moment(12.5, READ_AT), {"source": "neighbours"})
    monitor.neighbours = NeighbourReport({server.id: judged})
    samples = poll(conf, monitor, [server])
    assert (monitor.asked, monitor.rdt_asked) == (1, 1)
    assert len(samples) == len(METERS)
    for meter, ours in zip(METERS, samples, strict=True):
        core = util.make_sample_from_instance(
            conf,
            server,
            name=meter.name,
            type=meter.type,
            unit=meter.unit,
            volume=VALUES[meter.key],
            additional_metadata={"perf": about(meter)},
            monotonic_time=12.75 if meter.key in RDT_KEYS else 12.5,
        )
        ours.set_timestamp("when the agent came to this pollster")
        core.set_timestamp("2026-01-02T03:04:05.000600")
        assert vars(ours).keys() == vars(core).keys()
        assert uuidutils.is_uuid_like(ours.id)
        ours.id = core.id
        assert vars(ours) == vars(core)


def test_each_sample_has_an_id_and_metadata_of_its_own(
    conf: cfg.ConfigOpts,
) -> None:
    server = instance()
    samples = poll(conf, FakeParts(report(1, {server.id: COUNTERS})), [server])
    assert len({s.id for s in samples}) == len(samples)
    samples[0].resource_metadata["added"] = True
    assert "added" not in samples[1].resource_metadata


def test_no_key_no_sample_no_warning(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    some, none, gone = (instance(uuidutils.generate_uuid()) for _ in range(3))
    reading = report(1, {some.id: {"perf.cpu_clock": 0}, none.id: {}})
    samples = poll(conf, FakeParts(reading), [some, none, gone])
    assert [(s.name, s.resource_id, s.volume) for s in samples] == [
        ("perf.sw.cpu_clock", some.id, 0)
    ]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_monitor_that_is_down_costs_one_line(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = FakeParts(unavailable("libvirt is gone (unique 1)"))
    assert poll(conf, monitor, [instance()]) == []
    assert monitor.asked == 1
    lines = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert [r.getMessage() for r in lines] == ["libvirt is gone (unique 1)"]


def test_one_broken_instance_costs_one_line_and_itself(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = instance(), instance(uuidutils.generate_uuid())
    bad.flavor = None
    reading = report(1, {good.id: COUNTERS, bad.id: COUNTERS})
    samples = poll(conf, FakeParts(reading), [bad, good])
    assert {s.resource_id for s in samples} == {good.id}
    assert len(samples) == len(COUNTERS)
    (line,) = (r for r in caplog.records if r.levelno >= logging.WARNING)
    assert bad.id in line.getMessage()


def test_forgets_the_trouble_of_who_is_gone(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    """Its line is said again should it come back; nothing piles up."""
    bad = instance(uuidutils.generate_uuid())
    bad.flavor = None
    there = report(1, {bad.id: COUNTERS})
    gone = dataclasses.replace(
        there,
        published={},
        reading=Reading(1, 1, {"other": guest("other")}, {}),
    )
    for reading in there, there, gone, there:
        poll(conf, FakeParts(reading), [bad])
    lines = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(lines) == 2


@pytest.fixture
def wrong_conf(tmp_path: Path, request: Any) -> cfg.ConfigOpts:
    file = tmp_path / "ceilometer.conf"
    file.write_text(f"[perf]\nlibvirt_timeout = {request.param}\n")
    return configuration(file)


@pytest.mark.parametrize("wrong_conf", ["soon", "0"], indirect=True)
def test_a_wrong_option_never_raises_and_is_named(
    wrong_conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = pollsters.HwCpuCycles(wrong_conf)._parts  # type: ignore[attr-defined]
    assert isinstance(monitor, Misconfigured)
    assert poll(wrong_conf, monitor, [instance()]) == []
    (line,) = (r for r in caplog.records if r.levelno >= logging.WARNING)
    text = line.getMessage()
    assert "[perf] libvirt_timeout" in text
    assert "default is 10" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("options", "uri"),
    [
        ({}, "qemu:///system"),
        ({"libvirt_type": "lxc"}, "lxc:///"),
        ({"libvirt_uri": "test:///default"}, "test:///default"),
    ],
)
def test_honours_core_s_libvirt_options(
    options: dict[str, str], uri: str
) -> None:
    pollster = pollsters.SwTaskClock(agent_conf(**options))  # type: ignore[attr-defined]
    assert pollster._parts.connection.uri == uri


def test_all_pollsters_share_one_monitor(conf: cfg.ConfigOpts) -> None:
    monitors = {
        id(getattr(pollsters, meter.pollster)(conf)._parts) for meter in METERS
    }
    assert len(monitors) == 1
