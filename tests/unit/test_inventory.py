# SPDX-License-Identifier: Apache-2.0
"""Domains are read when they change, and a bad one costs only itself."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures

import libvirt
import pytest

from ceilometer_perf.host import connection
from ceilometer_perf.host.connection import Connection
from ceilometer_perf.host.inventory import Inventory
from ceilometer_perf.reading import SourceUnavailableError
from tests.unit.fakes import FakeVirConnect, FakeVirDomain, libvirt_error

REALTIME = (
    "<domain><cputune><vcpusched vcpus='1' scheduler='fifo' priority='1'/>"
    "</cputune></domain>"
)
METADATA_CHANGE = libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE


class Libvirtd:
    """Two domains; after a restart the same ones, in a new connection."""

    def __init__(self) -> None:
        self.a = FakeVirDomain("uuid-a", "a", 1)
        self.b = FakeVirDomain("uuid-b", "b", 2)
        self.down = False
        self.restart()

    def restart(self) -> None:
        self.conn = FakeVirConnect(self.a, self.b)
        self.a.conn = self.b.conn = self.conn

    def open(self, uri: str) -> FakeVirConnect:
        if self.down:
            raise libvirt_error()
        return self.conn

    def reads(self) -> tuple[int, int]:
        return self.a.read, self.b.read


@pytest.fixture
def libvirtd(monkeypatch: pytest.MonkeyPatch) -> Libvirtd:
    fake = Libvirtd()
    monkeypatch.setattr(libvirt, "openReadOnly", fake.open)
    monkeypatch.setattr(connection, "loop_runs", lambda: True)
    return fake


@pytest.fixture
def inventory(libvirtd: Libvirtd) -> Inventory:
    return Inventory(Connection("test:///", timeout=5), 600)


def test_one_bulk_call_and_the_same_objects(
    inventory: Inventory, libvirtd: Libvirtd
) -> None:
    first = inventory.refresh()
    assert [(d.name, d.id, d.state, d.xml) for d in first.values()] == [
        ("a", 1, libvirt.VIR_DOMAIN_RUNNING, "<domain/>"),
        ("b", 2, libvirt.VIR_DOMAIN_RUNNING, "<domain/>"),
    ]
    for _ in range(3):
        again = inventory.refresh()
        assert all(again[uuid] is first[uuid] for uuid in first)
    assert libvirtd.reads() == (1, 1)
    assert (
        libvirtd.conn.calls
        == [
            (
                libvirt.VIR_DOMAIN_STATS_STATE,
                libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
            )
        ]
        * 4
    )


def perf(*events: str) -> str:
    found = "".join(f"<event name='{e}' enabled='yes'/>" for e in events)
    return f"<domain><perf>{found}</perf></domain>"


@pytest.mark.parametrize(
    ("id_", "definition", "undefined"),
    [
        (1, perf("task_clock"), {"perf.cpu_cycles"}),
        (1, perf("task_clock", "cpu_cycles", "page_faults"), set()),
        (1, "<domain/>", {"perf.cpu_cycles", "perf.task_clock"}),
        (1, None, set()),  # transient
        (-1, perf("task_clock"), set()),
    ],
)
def test_events_that_the_definition_lacks(
    inventory: Inventory,
    libvirtd: Libvirtd,
    id_: int,
    definition: str | None,
    undefined: set[str],
) -> None:
    libvirtd.a.id = id_
    libvirtd.a.xml = perf("task_clock", "cpu_cycles")
    libvirtd.a.definition = definition
    for _ in range(3):
        assert inventory.refresh()["uuid-a"].undefined == undefined
    assert libvirtd.a.asked <= 2


def test_a_state_is_news_without_being_read(
    inventory: Inventory, libvirtd: Libvirtd
) -> None:
    first = inventory.refresh()
    libvirtd.a.state = libvirt.VIR_DOMAIN_PAUSED
    paused = inventory.refresh()
    assert paused["uuid-a"].state == libvirt.VIR_DOMAIN_PAUSED
    assert paused["uuid-b"] is first["uuid-b"]
    assert libvirtd.reads() == (1, 1)


@pytest.mark.parametrize(
    ("reason", "there"),
    [
        (libvirt.VIR_DOMAIN_PAUSED_USER, True),
        (libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, False),
        (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, False),
        (libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, False),
        (libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, False),
    ],
)
def test_one_that_migrates_is_where_it_runs(
    inventory: Inventory, libvirtd: Libvirtd, reason: int, there: bool
) -> None:
    libvirtd.a.reason = reason  # of a running one it means something else
    assert "uuid-a" in inventory.refresh()
    libvirtd.a.state = libvirt.VIR_DOMAIN_PAUSED
    assert ("uuid-a" in inventory.refresh()) == there


def test_one_whose_qemu_ends_may_run_elsewhere(
    inventory: Inventory, libvirtd: Libvirtd
) -> None:
    libvirtd.a.state = libvirt.VIR_DOMAIN_SHUTDOWN
    assert list(inventory.refresh()) == ["uuid-b"]


def rename(libvirtd: Libvirtd) -> None:
    libvirtd.a.domain_name = "another"


def reboot(libvirtd: Libvirtd) -> None:
    libvirtd.a.id = 3


def say_so(libvirtd: Libvirtd) -> None:
    libvirtd.conn.tell(METADATA_CHANGE, libvirtd.a, 2, "a namespace")


@pytest.mark.parametrize("change", [rename, reboot, say_so])
def test_what_changed_is_read_and_nothing_else(
    inventory: Inventory,
    libvirtd: Libvirtd,
    change: Callable[[Libvirtd], None],
) -> None:
    first = inventory.refresh()
    change(libvirtd)
    libvirtd.a.xml = REALTIME
    second = inventory.refresh()
    assert second["uuid-a"].realtime
    assert second["uuid-b"] is first["uuid-b"]
    inventory.refresh()
    assert libvirtd.reads() == (2, 1)


def test_an_event_that_changed_nothing_keeps_the_object(
    inventory: Inventory, libvirtd: Libvirtd
) -> None:
    first = inventory.refresh()
    say_so(libvirtd)
    assert inventory.refresh()["uuid-a"] is first["uuid-a"]
    assert libvirtd.reads() == (2, 1)


def test_all_is_read_anew_after_the_interval(libvirtd: Libvirtd) -> None:
    inventory = Inventory(Connection("test:///", timeout=5), 0.2)
    inventory.refresh()
    inventory.refresh()
    assert libvirtd.reads() == (1, 1)
    time.sleep(0.25)
    inventory.refresh()
    inventory.refresh()
    assert libvirtd.reads() == (2, 2)


def test_all_is_read_in_every_cycle_where_nothing_is_told(
    inventory: Inventory,
    libvirtd: Libvirtd,
    caplog: pytest.LogCaptureFixture,
) -> None:
    libvirtd.conn.unknown_events = {METADATA_CHANGE}
    for _ in range(3):
        inventory.refresh()
    assert libvirtd.reads() == (3, 3)
    assert not libvirtd.conn.callbacks
    old = libvirtd.conn
    libvirtd.restart()
    libvirtd.conn.unknown_events = {METADATA_CHANGE}
    old.alive = False
    inventory.refresh()
    (line,) = (r for r in caplog.records if r.levelno >= logging.WARNING)
    assert "every domain is read in every cycle" in line.getMessage()


def test_a_new_libvirtd_is_a_new_start(
    inventory: Inventory, libvirtd: Libvirtd
) -> None:
    first = inventory.refresh()
    old = libvirtd.conn
    libvirtd.restart()
    libvirtd.a = libvirtd.conn.domains[0] = FakeVirDomain("uuid-a", "a", 1)
    old.alive = False
    second = inventory.refresh()
    assert second["uuid-a"] == first["uuid-a"]
    assert second["uuid-a"].handle is libvirtd.a
    assert libvirtd.b.read == 2


def test_a_domain_that_is_gone_is_gone(
    inventory: Inventory,
    libvirtd: Libvirtd,
    caplog: pytest.LogCaptureFixture,
) -> None:
    libvirtd.b.xml = libvirt_error(libvirt.VIR_ERR_NO_DOMAIN)
    assert inventory.refresh().keys() == {"uuid-a"}
    libvirtd.conn.domains.remove(libvirtd.a)
    assert inventory.refresh() == {}
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "bad", [libvirt_error(), "<domain", "<!DOCTYPE x><domain/>"]
)
def test_a_bad_domain_costs_one_line_and_itself(
    inventory: Inventory,
    libvirtd: Libvirtd,
    caplog: pytest.LogCaptureFixture,
    bad: str | Exception,
) -> None:
    libvirtd.a.xml = bad
    for _ in range(3):
        assert inventory.refresh().keys() == {"uuid-b"}
    (line,) = (r for r in caplog.records if r.levelno >= logging.WARNING)
    assert "uuid-a" in line.getMessage()
    assert "\n" not in line.getMessage()
    libvirtd.a.xml = "<domain/>"
    assert inventory.refresh().keys() == {"uuid-a", "uuid-b"}


def test_one_that_went_bad_is_not_told_of_as_it_was(
    inventory: Inventory, libvirtd: Libvirtd
) -> None:
    inventory.refresh()
    libvirtd.a.xml = libvirt_error()
    say_so(libvirtd)
    assert inventory.refresh().keys() == {"uuid-b"}


def test_trouble_with_what_is_gone_is_forgotten(
    inventory: Inventory,
    libvirtd: Libvirtd,
    caplog: pytest.LogCaptureFixture,
) -> None:
    libvirtd.a.xml = libvirt_error()
    inventory.refresh()
    libvirtd.conn.domains.remove(libvirtd.a)
    inventory.refresh()
    libvirtd.conn.domains.append(libvirtd.a)
    inventory.refresh()
    lines = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(lines) == 2


def test_a_connection_that_breaks_is_no_bad_domain(
    inventory: Inventory,
    libvirtd: Libvirtd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = libvirtd.conn
    of_old = old.domains[0] = FakeVirDomain("uuid-a", "a", 1, conn=old)

    def breaks(flags: int) -> str:
        old.alive = False
        libvirtd.restart()
        raise libvirt_error()

    monkeypatch.setattr(of_old, "XMLDesc", breaks)
    assert inventory.refresh().keys() == {"uuid-a", "uuid-b"}


def test_no_answer_is_no_domains_and_not_the_last_ones(
    inventory: Inventory, libvirtd: Libvirtd
) -> None:
    inventory.refresh()
    libvirtd.down, libvirtd.conn.alive = True, False
    for ask in (inventory.refresh, inventory.domains):
        with pytest.raises(SourceUnavailableError):
            ask()


def test_the_cycle_reads_what_discovery_saw_once(
    inventory: Inventory, libvirtd: Libvirtd
) -> None:
    seen = inventory.refresh()
    assert inventory.domains() is seen
    assert len(libvirtd.conn.calls) == 1
    inventory.domains()
    inventory.domains()
    assert len(libvirtd.conn.calls) == 3


def test_what_discovery_saw_long_ago_is_not_this_cycle_s(
    inventory: Inventory,
    libvirtd: Libvirtd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inventory.refresh()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    inventory.domains()
    assert len(libvirtd.conn.calls) == 2


def test_those_who_ask_at_once_share_an_answer(
    inventory: Inventory,
    libvirtd: Libvirtd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inventory.refresh()
    asked, go = threading.Event(), threading.Event()
    answer = libvirtd.conn.getAllDomainStats

    def slow(stats: int, flags: int) -> object:
        asked.set()
        go.wait(5)
        return answer(stats, flags)

    monkeypatch.setattr(libvirtd.conn, "getAllDomainStats", slow)
    with futures.ThreadPoolExecutor(19) as pool:
        answers = [pool.submit(inventory.refresh) for _ in range(19)]
        asked.wait(5)
        time.sleep(0.1)
        go.set()
    assert len({id(each.result()) for each in answers}) == 1
    assert len(libvirtd.conn.calls) == 2
