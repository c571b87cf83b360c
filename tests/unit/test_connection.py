# SPDX-License-Identifier: Apache-2.0
"""The connection opens late, again, and never waits for ever."""

import threading
import time
from collections.abc import Callable, Iterator

import libvirt
import pytest

from ceilometer_perf.host import connection, stats
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.reading import SourceUnavailableError
from tests.unit.fakes import FakeVirConnect

URI = "qemu:///system"


class Opener:
    """Stands in for libvirt.openReadOnly."""

    def __init__(self) -> None:
        self.conns: list[FakeVirConnect] = []
        self.error: libvirt.libvirtError | None = None
        self.wait_for: threading.Event | None = None

    def __call__(self, uri: str) -> FakeVirConnect:
        if self.wait_for:
            self.wait_for.wait()
        if self.error:
            raise self.error
        self.conns.append(FakeVirConnect({"uuid": {"perf.cpu_clock": 1}}))
        return self.conns[-1]


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    opener = Opener()
    monkeypatch.setattr(libvirt, "openReadOnly", opener)
    yield opener
    if opener.wait_for:
        opener.wait_for.set()


def break_once(conns: list[FakeVirConnect]) -> Callable[[Session], int]:
    """A question at which the first connection turns out to be dead."""

    def question(session: Session) -> int:
        if session.conn is conns[0]:
            conns[0].alive = False
            raise libvirt.libvirtError("End of file")
        return 42

    return question


def test_opens_at_the_first_call_only(opener: Opener) -> None:
    conn = Connection(URI, timeout=5)
    assert opener.conns == []
    conn.call(stats.perf_stats)
    conn.call(stats.perf_stats)
    assert len(opener.conns) == 1


def test_one_bulk_call_that_does_not_wait(opener: Opener) -> None:
    conn = Connection(URI, timeout=5)
    assert conn.call(stats.perf_stats) == {"uuid": {"perf.cpu_clock": 1}}
    assert opener.conns[0].calls == [
        (
            libvirt.VIR_DOMAIN_STATS_PERF,
            libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
            | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
        )
    ]


def test_old_libvirt_is_not_asked_what_it_does_not_know() -> None:
    old = FakeVirConnect({}, version=4_004_000)
    stats.perf_stats(Session(old, (4, 4, 0)))
    ((_, flags),) = old.calls
    assert not flags & libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT


def test_opens_again_within_the_call_that_finds_it_broken(
    opener: Opener,
) -> None:
    conn = Connection(URI, timeout=5)
    conn.call(stats.perf_stats)
    assert conn.call(break_once(opener.conns)) == 42
    assert len(opener.conns) == 2


def test_error_of_a_living_libvirt_is_not_tried_again(opener: Opener) -> None:
    asked = 0

    def refuse(_session: Session) -> None:
        nonlocal asked
        asked += 1
        raise libvirt.libvirtError("not supported by this driver")

    conn = Connection(URI, timeout=5)
    with pytest.raises(SourceUnavailableError, match="not supported"):
        conn.call(refuse)
    assert asked == 1


def test_refused_open_names_uri_and_option(opener: Opener) -> None:
    opener.error = libvirt.libvirtError("Failed to connect socket")
    with pytest.raises(SourceUnavailableError) as caught:
        Connection(URI, timeout=5).call(stats.perf_stats)
    text = str(caught.value)
    assert "\n" not in text
    assert URI in text
    assert "Failed to connect socket" in text
    assert "libvirt_uri" in text


def test_hung_libvirt_costs_the_timeout_once_and_one_thread(
    opener: Opener,
) -> None:
    opener.wait_for = threading.Event()
    conn = Connection(URI, timeout=0.1)
    before = threading.active_count()
    with pytest.raises(SourceUnavailableError, match=r"within 0\.1 s"):
        conn.call(stats.perf_stats)
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(SourceUnavailableError, match="earlier call"):
            conn.call(stats.perf_stats)
    assert time.monotonic() - started < 1
    assert threading.active_count() == before + 1

    opener.wait_for.set()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert conn.call(stats.perf_stats)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("number", "version"),
    [(9_000_000, (9, 0, 0)), (12_008_003, (12, 8, 3)), (1_003_003, (1, 3, 3))],
)
def test_version(number: int, version: tuple[int, int, int]) -> None:
    assert connection._version(number) == version
