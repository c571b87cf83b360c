# SPDX-License-Identifier: Apache-2.0
"""libvirt's monitors are asked where nothing else waits."""

from collections.abc import Callable
from typing import Any

import libvirt
import pytest

from ceilometer_perf.host.connection import Session
from ceilometer_perf.host.monitors import MOST_HELD_UP, Monitors
from ceilometer_perf.reading import SourceUnavailableError
from tests.unit.fakes import libvirt_error, unavailable


class Domain:
    def __init__(self, uuid: str) -> None:
        self.uuid = uuid

    def UUIDString(self) -> str:  # noqa: N802
        return self.uuid


class Conn:
    def __init__(self, *gone: str) -> None:
        self.gone = gone
        self.looked_up: list[str] = []

    def lookupByUUIDString(self, uuid: str) -> Domain:  # noqa: N802
        self.looked_up.append(uuid)
        if uuid in self.gone:
            raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN)
        return Domain(uuid)

    def domainListGetStats(  # noqa: N802
        self, domains: list[Domain], stats: int, flags: int
    ) -> list[tuple[Domain, dict[str, int]]]:
        return [(domain, {"cpu.time": 1}) for domain in domains]


class Connection:
    """``is_busy``: its call hangs."""

    def __init__(self, conn: Conn) -> None:
        self.session = Session(conn, (9, 0, 0))
        self.is_busy = False
        self.closed = False

    def call(self, question: Callable[[Session], Any]) -> Any:
        if self.is_busy:
            raise unavailable("no answer")
        return question(self.session)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made() -> list[Connection]:
    return []


@pytest.fixture
def conn() -> Conn:
    return Conn("gone")


@pytest.fixture
def monitors(made: list[Connection], conn: Conn) -> Monitors:
    def connect() -> Any:
        made.append(Connection(conn))
        return made[-1]

    return Monitors(connect)


def test_each_instance_is_looked_up_once(
    monitors: Monitors, conn: Conn
) -> None:
    for _ in range(3):
        assert set(monitors.read(["a", "b"])) == {"a", "b"}
    assert conn.looked_up == ["a", "b"]
    monitors.read(["b"])
    monitors.read(["a"])
    assert conn.looked_up == ["a", "b", "a"]


def test_one_that_is_gone_is_left_out(monitors: Monitors) -> None:
    assert set(monitors.read(["a", "gone"])) == {"a"}


def test_another_connection_knows_other_domains(
    monitors: Monitors, made: list[Connection], conn: Conn
) -> None:
    monitors.read(["a"])
    made[0].session = Session(conn, (9, 0, 0))
    monitors.read(["a"])
    assert conn.looked_up == ["a", "a"]


def test_what_hangs_is_left_for_a_new_connection(
    monitors: Monitors, made: list[Connection]
) -> None:
    made[0].is_busy = True  # as after a call that got no answer in time
    assert set(monitors.read(["a"])) == {"a"}
    assert len(made) == 2
    made[0].is_busy = False
    monitors.read(["a"])
    assert made[0].closed
    assert len(made) == 2


def test_not_for_ever_a_new_one(
    monitors: Monitors, made: list[Connection]
) -> None:
    for _ in range(3 * MOST_HELD_UP):
        made[-1].is_busy = True
        if len(made) <= MOST_HELD_UP:
            monitors.read(["a"])
        else:
            with pytest.raises(SourceUnavailableError, match="QEMU"):
                monitors.read(["a"])
    assert len(made) == MOST_HELD_UP + 1
