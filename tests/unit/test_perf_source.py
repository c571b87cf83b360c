# SPDX-License-Identifier: Apache-2.0
"""The perf source, above a libvirt that is made up."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import libvirt
import pytest

from ceilometer_perf.counters.libvirt import PerfSource
from ceilometer_perf.host.connection import Session
from tests.unit.fakes import libvirt_error

T = TypeVar("T")


class Handle:
    """A virDomain."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid

    def UUIDString(self) -> str:  # noqa: N802
        return self.uuid


@dataclass
class Domain:
    handle: Handle
    id: int = 1
    realtime: bool = False
    slice: str | None = None
    name: str = "instance-1"


class Libvirt:
    """The connection, the session and the inventory of a made-up host."""

    def __init__(self, version: tuple[int, int, int], **domains: Any) -> None:
        self.version = version
        self.found = {
            name: Domain(Handle(name), **fields)
            for name, fields in domains.items()
        }
        self.asked: list[tuple[list[str], int, int]] = []
        self.fails: dict[str, Exception] = {}

    def call(self, question: Callable[[Session], T]) -> T:
        return question(Session(self, self.version, None))  # type: ignore[arg-type]

    def domains(self) -> dict[str, Domain]:
        return self.found

    def isAlive(self) -> bool:  # noqa: N802
        return True

    def domainListGetStats(  # noqa: N802
        self, handles: list[Handle], stats: int, flags: int
    ) -> list[tuple[Handle, dict[str, int]]]:
        for handle in handles:
            if handle.uuid in self.fails:
                raise self.fails[handle.uuid]
        self.asked.append(([h.uuid for h in handles], stats, flags))
        return [(handle, {"perf.cpu_cycles": 7}) for handle in handles]


def source(host: Libvirt, **options: Any) -> PerfSource:
    return PerfSource(host, host, **options)  # type: ignore[arg-type]


def test_one_bulk_call_that_does_not_wait() -> None:
    host = Libvirt((9, 0, 0), a={}, b={})
    reading = source(host).read()
    assert host.asked == [
        (
            ["a", "b"],
            libvirt.VIR_DOMAIN_STATS_PERF,
            libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
        )
    ]
    assert reading.instances == {name: {"perf.cpu_cycles": 7} for name in "ab"}
    assert list(reading.guests) == list(host.found)
    assert reading.asked_at <= reading.taken_at


@pytest.mark.parametrize(
    ("poll_them", "read"), [(False, ["a"]), (True, ["a", "b"])]
)
def test_realtime_guests_are_not_even_asked_for(
    poll_them: bool, read: list[str]
) -> None:
    host = Libvirt((9, 0, 0), a={}, b={"realtime": True}, c={"id": -1})
    reading = source(host, realtime=poll_them).read()
    assert [names for names, _, _ in host.asked] == [read]
    assert set(reading.guests) == {"a", "b", "c"}


def test_nobody_to_read_is_no_call() -> None:
    host = Libvirt((9, 0, 0), c={"id": -1})
    assert source(host).read().instances == {}
    assert host.asked == []


def test_one_that_fails_costs_no_other_its_counters() -> None:
    host = Libvirt((9, 0, 0), a={}, b={}, gone={}, off={}, c={})
    host.fails = {
        "b": libvirt_error(text="cannot read counters"),
        "gone": libvirt_error(libvirt.VIR_ERR_NO_DOMAIN),
        "off": libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID),
    }
    reading = source(host).read()
    assert set(reading.instances) == {"a", "c"}
    assert set(reading.failed) == {"b"}
    assert "cannot read counters" in reading.failed["b"]
    host.fails = {}
    assert set(source(host).read().instances) == set(host.found)


def test_a_connection_that_leads_nowhere_is_not_each_domain_s() -> None:
    host = Libvirt((9, 0, 0), a={}, b={})
    host.fails = {"a": libvirt_error(domain=libvirt.VIR_FROM_RPC)}
    with pytest.raises(libvirt.libvirtError):
        source(host).read()


def test_too_old_for_some_events_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = source(Libvirt((2, 3, 0), a={}))
    for _ in range(3):
        assert old.read().instances == {"a": {"perf.cpu_cycles": 7}}
    (line,) = (r for r in caplog.records if r.levelno >= logging.WARNING)
    text = line.getMessage()
    assert "2.3.0" in text
    assert "perf.sw.cpu_clock" in text
    assert "perf.hw.cpu_cycles" not in text


def test_old_libvirt_is_not_asked_what_it_does_not_know() -> None:
    host = Libvirt((4, 4, 0), a={})
    source(host).read()
    ((_, _, flags),) = host.asked
    assert not flags & libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT


def test_new_enough_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    source(Libvirt((3, 2, 0), a={})).read()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("value", [-1, "7", float("nan"), None, 1 << 64])
def test_what_is_no_count_is_left_out(value: Any) -> None:
    host = Libvirt((9, 0, 0), good={}, odd={})
    answers = {"good": {"perf.cmt": 7}, "odd": {"perf.cmt": value}}
    host.domainListGetStats = lambda handles, *_: [  # type: ignore[method-assign]
        (handle, answers[handle.uuid]) for handle in handles
    ]
    source = PerfSource(host, host)  # type: ignore[arg-type]
    assert source.read().instances == {"good": {"perf.cmt": 7}, "odd": {}}
