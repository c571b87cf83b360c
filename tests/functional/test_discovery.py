# SPDX-License-Identifier: Apache-2.0
"""Our discovery next to core's, on the same domains of a real libvirtd."""

import contextlib
import logging
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest
from ceilometer import nova_client
from ceilometer.compute.discovery import InstanceDiscovery
from novaclient import exceptions
from oslo_config import cfg

from ceilometer_perf.agent.discovery import PerfInstances
from tests.functional.agent import wait_for
from tests.lab import Guest, Lab
from tests.lab.guests import NOVA_URI
from tests.lab.rpc import GET_ALL_DOMAIN_STATS, CountingProxy
from tests.unit.fakes import agent_conf

NOVA_1_0 = NOVA_URI.replace("1.1", "1.0")


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    """A lab without guests."""
    yield shared_lab
    connection = shared_lab.connection
    for domain in connection.listAllDomains(
        libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
    ):
        # A libvirtd that is new takes some for switched off, for a moment.
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
    for domain in connection.listAllDomains():
        domain.undefine()


class Nova:
    """Nova's API, as far as core's discovery asks it."""

    def __init__(self) -> None:
        self.flavors = SimpleNamespace(find=self.find)
        self.servers = SimpleNamespace(get=self.get)
        self.nova_client = self
        self.error: Exception | None = None

    def find(self, name: str, is_public: None) -> Any:
        if self.error:
            raise self.error
        return SimpleNamespace(id=f"id-of-{name}")

    def get(self, uuid: str) -> Any:
        return SimpleNamespace(
            flavor={"id": "server-s-flavor"}, metadata={"for": uuid}
        )


class Pair:
    """Ours and core's."""

    def __init__(self, uri: str, **compute: Any) -> None:
        conf: cfg.ConfigOpts = agent_conf(libvirt_uri=uri, host="compute-1")
        for name, value in compute.items():
            conf.set_override(name, value, group="compute")
        self.ours = PerfInstances(conf)
        self.core = InstanceDiscovery(conf)

    def names(self) -> set[str]:
        return {i.name for i in self.ours.discover(None)}

    def same(self) -> dict[str, dict[str, Any]]:
        """The instances, which must be the same ones."""
        ours, core = (
            {i.id: vars(i) for i in discovery.discover(None)}
            for discovery in (self.ours, self.core)
        )
        assert ours == core
        return ours


@pytest.fixture
def nova(monkeypatch: pytest.MonkeyPatch) -> Nova:
    nova = Nova()
    monkeypatch.setattr(nova_client, "Client", lambda conf: nova)
    return nova


@pytest.fixture
def pair(lab: Lab, nova: Nova) -> Pair:
    return Pair(lab.uri_ro)


def define(
    lab: Lab, guest: Guest, change: Callable[[str], str] = str
) -> libvirt.virDomain:
    """Define a guest whose XML is not as Nova writes it today."""
    before = guest.xml(lab.virt, boot=lab.folder / "boot")
    xml = change(before)
    assert change is str or xml != before
    return lab.connection.defineXML(xml)


def without(start: str, end: str) -> Callable[[str], str]:
    def cut(xml: str) -> str:
        a = xml.index(start)
        return xml[:a] + xml[xml.index(end, a) + len(end) :]

    return cut


def replaced(what: str, instead: str) -> Callable[[str], str]:
    return lambda xml: xml.replace(what, instead)


def test_every_state(lab: Lab, pair: Pair) -> None:
    lab.start(Guest("runs", "idle"))
    lab.start(Guest("paused", "paused"))
    off = lab.start(Guest("off", "paused"))
    lab.destroy(off)
    define(lab, Guest("defined"))
    lab.start(Guest("stranger", "paused", metadata=False))
    transient = Guest("transient", events=())
    lab.connection.createXML(transient.xml(lab.virt, boot=lab.folder / "boot"))
    found = pair.same()
    assert {(i["name"], i["status"]) for i in found.values()} == {
        ("runs", "active"),
        ("paused", "paused"),
        ("off", "stopped"),
        ("defined", "stopped"),
        ("transient", "active"),
    }


def test_what_nova_may_have_noted(lab: Lab, pair: Pair) -> None:
    define(lab, Guest("old", flavor_id=None))
    define(lab, Guest("older"), replaced(NOVA_URI, NOVA_1_0))
    define(
        lab,
        Guest(
            "rich",
            extra_specs={"hw:pmu": "true", "x": ""},
            image_properties={"hw_pmu": "true", "os": "ü & <"},
        ),
    )
    define(lab, Guest("no root"), without("<nova:root", "/>"))
    define(lab, Guest("no disk"), without("<nova:disk>", "</nova:disk>"))
    define(lab, Guest("no image"), without("<nova:image ", "</nova:image>"))
    define(
        lab,
        Guest("no specs"),
        lambda xml: xml.replace("<nova:extraSpecs/>", ""),
    )
    define(
        lab,
        Guest("not only nova's"),
        replaced(
            "<metadata>",
            "<metadata><a:b xmlns:a='urn:a'><nova:name xmlns:nova="
            f"'{NOVA_URI}'>wrong</nova:name></a:b>",
        ),
    )
    define(
        lab,
        Guest("with others in it"),
        replaced(
            "<nova:owner>",
            "<a:owner xmlns:a='urn:a'><nova:user uuid='no'/></a:owner>"
            "<nova:owner>",
        ),
    )
    define(
        lab,
        Guest("both versions"),
        replaced(
            "<metadata>",
            f"<metadata><old:instance xmlns:old='{NOVA_1_0}'/>",
        ),
    )
    define(
        lab,
        Guest("default namespace"),
        lambda xml: xml.replace("xmlns:nova", "xmlns").replace("nova:", ""),
    )
    found = pair.same()
    assert len(found) == 11
    assert found[Guest("old").uuid]["flavor"]["id"] == "id-of-lab.tiny"


def test_flavor_that_nova_does_not_know_any_more(
    lab: Lab, pair: Pair, nova: Nova
) -> None:
    define(lab, Guest("old", flavor_id=None))
    nova.error = exceptions.NotFound(404)
    (instance,) = pair.same().values()
    assert instance["flavor"]["id"] == "lab.tiny"


def test_nova_that_does_not_answer_costs_one_instance(
    lab: Lab, pair: Pair, nova: Nova
) -> None:
    define(lab, Guest("old", flavor_id=None))
    define(lab, Guest("new"))
    nova.error = exceptions.ClientException(503)
    with pytest.raises(exceptions.ClientException):
        pair.same()
    assert pair.names() == {"new"}
    nova.error = None
    assert len(pair.same()) == 2


def test_extra_metadata_from_nova(lab: Lab, nova: Nova) -> None:
    define(lab, Guest("old", flavor_id=None))
    pair = Pair(lab.uri_ro, fetch_extra_metadata=True)
    (instance,) = pair.same().values()
    assert instance["flavor"]["id"] == "server-s-flavor"
    assert instance["metadata"] == {"for": Guest("old").uuid}


@pytest.mark.parametrize(
    ("change", "core_raises"),
    [
        (without("<nova:flavor", "</nova:flavor>"), False),
        (without("<nova:owner>", "</nova:owner>"), False),
        (without("<nova:name>", "</nova:name>"), False),
        (replaced(">16</nova:memory>", ">a lot</nova:memory>"), True),
        (replaced('<nova:user uuid="', '<nova:user id="'), True),
        (replaced(' name="lab.tiny"', ""), True),
    ],
)
def test_missing_parts_cost_one_instance(
    lab: Lab, pair: Pair, change: Callable[[str], str], core_raises: bool
) -> None:
    define(lab, Guest("good"))
    good = pair.same()
    define(lab, Guest("bad"), change)
    if core_raises:
        with pytest.raises((ValueError, KeyError)):
            pair.core.discover(None)
        assert {i.id: vars(i) for i in pair.ours.discover(None)} == good
    else:
        assert pair.same() == good


def test_what_changes_is_in_the_next_result(lab: Lab, pair: Pair) -> None:
    """Within a second: libvirt tells it while we look already."""
    guest = lab.start(Guest("one", "paused"))
    lab.start(Guest("other", "paused"))
    domain = lab.domain(guest)

    def now(**fields: str) -> None:
        def seen() -> bool:
            found = {i.id: vars(i) for i in pair.ours.discover(None)}
            return all(found[guest.uuid][k] == v for k, v in fields.items())

        wait_for(seen, 1, str(fields))
        pair.same()

    pair.same()
    element = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    noted = domain.metadata(element, NOVA_URI)
    domain.setMetadata(
        element,
        noted.replace(">one<", ">renamed in Nova<"),
        "nova",
        NOVA_URI,
        libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG,
    )
    now(name="renamed in Nova")
    domain.resume()
    now(status="active")
    domain.suspend()
    now(status="paused")
    lab.reboot(guest)
    now(status="paused", name="renamed in Nova")
    lab.destroy(guest)
    now(status="stopped")
    domain.rename("another-name")
    now(**{"OS-EXT-SRV-ATTR:instance_name": "another-name"})
    domain.undefine()
    assert pair.names() == {"other"}
    pair.same()


def test_hot_changes(lab: Lab, pair: Pair) -> None:
    guest = lab.start(Guest("one", "paused", vcpus=2))
    pair.same()
    domain = lab.domain(guest)
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE
    domain.pinVcpu(0, (True, False))
    domain.setPerfEvents({"cpu_clock": False}, live)
    domain.setMemoryStatsPeriod(2, live)
    pair.same()


def test_no_libvirtd_is_no_instances_and_the_next_one_has_them_again(
    lab: Lab, pair: Pair
) -> None:
    lab.start(Guest("one", "paused"))
    before = pair.same()
    lab.libvirtd.kill(signal.SIGKILL)
    assert pair.ours.discover(None) == []
    lab.libvirtd.start()
    assert pair.same() == before


def test_one_call_in_steady_state(lab: Lab) -> None:
    lab.start_all([Guest(f"paused-{n}", "paused") for n in range(8)])
    lab.start(Guest("stranger", "paused", metadata=False))
    with CountingProxy(lab.run_dir / "libvirt-sock-ro") as proxy:
        pair = Pair(proxy.uri)
        assert len(pair.ours.discover(None)) == 8
        proxy.calls.clear()
        for _ in range(5):
            assert len(pair.ours.discover(None)) == 8
        assert proxy.calls == {GET_ALL_DOMAIN_STATS: 5}


def test_domains_that_come_and_go_while_we_look(
    lab: Lab, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    guests = [Guest(f"paused-{n}", "paused", events=()) for n in range(6)]
    lab.start_all(guests)
    pick = random.Random(5)

    def live() -> None:
        for _ in range(40):
            guest = pick.choice(guests)
            if guest in gone:
                gone.remove(guest)
                lab.start(guest)
            elif pick.random() < 0.5:
                gone.add(guest)
                lab.remove(guest)
            else:
                pick.choice([lab.destroy, lab.reboot])(guest)

    gone: set[Guest] = set()
    with futures.ThreadPoolExecutor() as pool:
        lives = pool.submit(live)
        while not lives.done():
            pair.ours.discover(None)
        lives.result()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    time.sleep(0.5)
    pair.same()
