# SPDX-License-Identifier: Apache-2.0
"""Discovery makes what core would, once, and never raises.

That the instances equal core's is for the functional tests, which ask core.
"""

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
from ceilometer.compute import discovery as core
from ceilometer.compute.virt.libvirt import utils
from oslo_config import cfg

from ceilometer_perf import wiring
from ceilometer_perf.agent import pollsters
from ceilometer_perf.agent.discovery import PerfInstances
from ceilometer_perf.host.inventory import Domain
from ceilometer_perf.reading import SourceUnavailableError
from tests.lab.ceilometer import configuration
from tests.lab.guests import Guest
from tests.unit.fakes import POLLING, agent_conf


class FakeInventory:
    """Knows what it is told; raises it if it is an error."""

    def __init__(self) -> None:
        self.domains: dict[str, Domain] = {}
        self.error: Exception | None = None

    def refresh(self) -> dict[str, Domain]:
        if self.error:
            raise self.error
        return dict(self.domains)

    def put(self, guest: Guest, *, xml: str = "", state: int = 1) -> Domain:
        domain = Domain(
            uuid=guest.uuid,
            name=guest.domain_name,
            id=1,
            state=state,
            xml=xml or guest.xml("kvm"),
            realtime=False,
            slice=None,
            handle=None,
        )
        self.domains[guest.uuid] = domain
        return domain


@pytest.fixture(scope="module")
def conf() -> cfg.ConfigOpts:
    conf = agent_conf()
    # Before Ceilometer 27 it is the default to ask Nova, which is not here.
    conf.set_override("fetch_extra_metadata", False, group="compute")
    return conf


@pytest.fixture
def inventory(monkeypatch: pytest.MonkeyPatch) -> FakeInventory:
    fake = FakeInventory()
    monkeypatch.setattr(wiring, "inventory", lambda *_: fake)
    return fake


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING
    ]


def test_the_same_instance_until_its_domain_changes(
    conf: cfg.ConfigOpts, inventory: FakeInventory
) -> None:
    discovery = PerfInstances(conf)
    inventory.put(Guest("a"))
    inventory.put(Guest("b"))
    first = discovery.discover(None)
    again = discovery.discover(None)
    assert [i.name for i in first] == ["a", "b"]
    assert [id(i) for i in again] == [id(i) for i in first]
    inventory.put(Guest("a"), state=3)
    paused = discovery.discover(None)
    assert [i.status for i in paused] == ["paused", "active"]
    assert paused[1] is first[1]
    del inventory.domains[Guest("a").uuid]
    assert discovery.discover(None) == paused[1:]


def test_domains_that_are_not_nova_s_are_said_once_and_quietly(
    conf: cfg.ConfigOpts,
    inventory: FakeInventory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    discovery = PerfInstances(conf)
    inventory.put(Guest("a", metadata=False))
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            assert discovery.discover(None) == []
    (line,) = (r for r in caplog.records if "Nova" in r.getMessage())
    assert line.levelno == logging.DEBUG


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (">16</nova:memory>", ">much</nova:memory>"),  # core raises
        ('uuid="8e1f', 'id="8e1f'),  # core raises
        ("nova:owner>", "nova:own>"),  # core says so itself
        ('<type arch="x86_64"', "<type "),  # core raises
    ],
)
def test_metadata_that_core_cannot_read_costs_one_line_and_one_instance(
    conf: cfg.ConfigOpts,
    inventory: FakeInventory,
    caplog: pytest.LogCaptureFixture,
    what: str,
    instead: str,
) -> None:
    discovery = PerfInstances(conf)
    bad, good = Guest(f"bad-{what}"), Guest("good")
    xml = bad.xml("kvm")
    assert what in xml
    inventory.put(bad, xml=xml.replace(what, instead))
    inventory.put(good)
    for _ in range(3):
        assert [i.name for i in discovery.discover(None)] == ["good"]
    (line,) = warnings(caplog)
    assert bad.uuid in line
    assert "\n" not in line
    inventory.put(bad)
    assert len(discovery.discover(None)) == 2


def test_an_api_that_hangs_does_not_take_a_cycle_for_each_instance(
    conf: cfg.ConfigOpts,
    inventory: FakeInventory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(step=6)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    tried: list[str] = []

    def time_out(discovery: PerfInstances, manager: object) -> list[Any]:
        tried.append(discovery.connection.UUIDString())
        raise TimeoutError("Nova does not answer")

    guests = [Guest(name) for name in "abcd"]
    for guest in guests:
        inventory.put(guest)
    discovery = PerfInstances(conf)
    with monkeypatch.context() as hanging:
        hanging.setattr(PerfInstances, "discover_libvirt_polling", time_out)
        assert discovery.discover(None) == []
    assert tried == [guest.uuid for guest in guests[:2]]
    assert len(warnings(caplog)) == len(guests)
    assert len(discovery.discover(None)) == len(guests)


def test_no_libvirt_is_no_instances_and_one_line(
    conf: cfg.ConfigOpts,
    inventory: FakeInventory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    discovery = PerfInstances(conf)
    inventory.put(Guest("a"))
    assert discovery.discover(None)
    inventory.error = SourceUnavailableError("libvirt is away (unique 2)")
    for _ in range(3):
        assert discovery.discover(None) == []
    assert warnings(caplog) == ["libvirt is away (unique 2)"]
    inventory.error = None
    assert discovery.discover(None)


def test_a_bug_of_ours_does_not_reach_the_agent(
    conf: cfg.ConfigOpts, inventory: FakeInventory
) -> None:
    inventory.error = ZeroDivisionError()
    assert PerfInstances(conf).discover(None) == []


@pytest.fixture
def wrong_conf(tmp_path: Path) -> cfg.ConfigOpts:
    file = tmp_path / "ceilometer.conf"
    file.write_text(
        f"[polling]\ncfg_file = {POLLING}\n[perf]\ninventory_interval = -1\n"
    )
    return configuration(file)


def test_a_wrong_option_is_one_line(
    wrong_conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = PerfInstances(wrong_conf)
    for _ in range(2):
        assert discovery.discover(None) == []
    (line,) = warnings(caplog)
    assert "[perf] inventory_interval" in line


@pytest.mark.parametrize("method", ["naive", "workload_partitioning"])
def test_core_discovers_when_nova_is_to_be_asked(
    inventory: FakeInventory, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    conf = agent_conf()
    conf.set_override("instance_discovery_method", method, group="compute")
    inventory.error = AssertionError("libvirt is not to be asked")

    def discover(self: Any, manager: Any, param: Any = None) -> list[str]:
        return ["an instance of core's"]

    monkeypatch.setattr(
        core.InstanceDiscovery, "discover_nova_polling", discover
    )
    assert PerfInstances(conf).discover(None) == ["an instance of core's"]


def test_pollsters_and_discovery_know_the_same_host(
    conf: cfg.ConfigOpts,
) -> None:
    polled = pollsters.SwTaskClock(conf)._parts  # type: ignore[attr-defined]
    uris = utils.LIBVIRT_PER_TYPE_URIS
    inventory = wiring.inventory(conf, uris)
    assert inventory is wiring.inventory(conf, uris)
    assert inventory is polled.inventory
    assert inventory is polled.monitor._libvirt._source._inventory
