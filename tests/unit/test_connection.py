# SPDX-License-Identifier: Apache-2.0
"""The connection opens late, again, and never waits for ever."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from ceilometer_perf.host import connection, daemon, stats
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.reading import SourceUnavailableError
from tests.unit.fakes import FakeVirConnect, FakeVirDomain, libvirt_error

URI = "qemu:///system"


class Opener:
    """Stands in for libvirt.openReadOnly."""

    def __init__(self) -> None:
        self.conns: list[FakeVirConnect] = []
        self.error: libvirt.libvirtError | None = None
        self.wait_for: threading.Event | None = None
        self.unknown_events: set[int] = set()

    def __call__(self, uri: str) -> FakeVirConnect:
        if self.wait_for:
            self.wait_for.wait()
        if self.error:
            raise self.error
        domain = FakeVirDomain("uuid", perf={"perf.cpu_clock": 1})
        self.conns.append(FakeVirConnect(domain))
        self.conns[-1].unknown_events = self.unknown_events
        return self.conns[-1]


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    opener = Opener()
    monkeypatch.setattr(libvirt, "openReadOnly", opener)
    monkeypatch.setattr(connection, "loop_runs", lambda: True)
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


def refuse(_session: Session) -> None:
    """A question that a libvirt that lives does not answer."""
    libvirt.virResetLastError()
    raise libvirt.libvirtError("not supported by this driver")


def test_opens_at_the_first_call_only(opener: Opener) -> None:
    conn = Connection(URI, timeout=5)
    assert opener.conns == []
    conn.call(stats.states)
    conn.call(stats.states)
    assert len(opener.conns) == 1


def test_states_are_one_bulk_call_that_does_not_wait(opener: Opener) -> None:
    conn = Connection(URI, timeout=5)
    ((domain, state),) = conn.call(stats.states)
    assert domain.UUIDString() == "uuid"
    assert state == libvirt.VIR_DOMAIN_RUNNING
    assert opener.conns[0].calls == [
        (
            libvirt.VIR_DOMAIN_STATS_STATE,
            libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
        )
    ]


def test_opens_again_within_the_call_that_finds_it_broken(
    opener: Opener,
) -> None:
    conn = Connection(URI, timeout=5)
    conn.call(stats.states)
    assert conn.call(break_once(opener.conns)) == 42
    assert len(opener.conns) == 2


@pytest.mark.parametrize(
    "domain", [libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE]
)
def test_a_connection_that_lives_and_leads_nowhere_is_broken(
    opener: Opener, domain: int
) -> None:
    """virtproxyd's after virtqemud has gone: each call fails for ever."""
    conn = Connection(URI, timeout=5)
    conn.call(stats.states)

    def question(session: Session) -> int:
        if len(opener.conns) < 3:
            raise libvirt_error(domain=domain, text="client socket is closed")
        return 42

    with pytest.raises(SourceUnavailableError, match="socket is closed"):
        conn.call(question)
    assert [each.closed for each in opener.conns] == [True, True]
    assert conn.call(question) == 42


def test_a_bulk_call_that_leads_nowhere_is_not_asked_one_by_one(
    opener: Opener,
) -> None:
    """Or every domain would be one that can't be read."""
    conn = Connection(URI, timeout=5)
    handles = [d for d, _ in conn.call(stats.states)]
    opener.conns[0].behind_proxy = True
    found = conn.call(lambda s: stats.monitor_stats(s, handles * 9))
    assert set(found) == {"uuid"}
    assert len(opener.conns[0].calls) == 2
    assert len(opener.conns) == 2


def test_who_is_unknown_to_the_host_gets_a_remedy_of_its_own(
    opener: Opener,
) -> None:
    """As an agent in a container whose user the host doesn't have."""
    libvirt.virResetLastError()
    opener.error = libvirt.libvirtError(
        "Failed to find user record for uid '42405'"
    )
    with pytest.raises(SourceUnavailableError) as caught:
        Connection(URI, hint="; is libvirtd there?").call(stats.states)
    assert "useradd --system --uid" in str(caught.value)
    assert "is libvirtd there" not in str(caught.value)


@pytest.mark.parametrize("modular", [True, False])
def test_messages_name_the_daemon_that_is_there(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    modular: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(daemon, "RUN", tmp_path)
    if modular:
        (tmp_path / "virtqemud-sock-ro").touch()
    hang = threading.Event()
    name = "virtqemud" if modular else "libvirtd"
    with (
        pytest.raises(SourceUnavailableError, match=f"is {name} stopped"),
        Connection(URI, timeout=0.1) as conn,
    ):
        conn.call(lambda _session: hang.wait(60))
    hang.set()


def test_lets_go_of_what_is_broken(opener: Opener) -> None:
    conn = Connection(URI, timeout=5)
    conn.call(lambda session: session.listen())
    conn.call(break_once(opener.conns))
    conn.call(lambda session: session.listen())
    broken, present = opener.conns
    assert broken.closed
    assert not broken.callbacks
    assert not present.closed
    conn.close()
    assert present.closed
    assert not present.callbacks


@pytest.mark.parametrize(
    ("timeout", "keepalive"), [(10, (5, 1)), (0.1, (1, 1)), (3, (2, 1))]
)
def test_keepalive_gives_up_when_calls_do(
    opener: Opener, timeout: float, keepalive: tuple[int, int]
) -> None:
    Connection(URI, timeout).call(stats.states)
    assert opener.conns[0].keepalive == keepalive


def test_goes_without_events_where_no_loop_can_run(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "loop_runs", lambda: False)
    session = Connection(URI, timeout=5).call(lambda session: session)
    session.listen()
    assert session.events.take() is None
    assert opener.conns[0].keepalive is None
    assert not opener.conns[0].callbacks


def test_hears_which_domains_changed_once(opener: Opener) -> None:
    conn = Connection(URI, timeout=5)
    session = conn.call(lambda session: session)
    assert not opener.conns[0].callbacks  # nobody has asked to be told
    assert session.events.take() is None
    session.listen()
    assert session.events.take() == set()
    libvirtd = opener.conns[0]
    for event in libvirtd.callbacks:
        libvirtd.tell(event, FakeVirDomain(f"uuid-{event}"), "detail")
    assert session.events.take() == {
        f"uuid-{event}" for event in libvirtd.callbacks
    }
    assert session.events.take() == set()


def test_a_fork_leaves_the_connection_to_its_parent(opener: Opener) -> None:
    conn = Connection(URI, timeout=5)
    conn.call(stats.states)
    conn.start_over()
    # What virConnect.__del__ would close is gone.
    assert opener.conns[0]._o is None
    assert not opener.conns[0].closed
    conn.call(stats.states)
    assert len(opener.conns) == 2


def test_error_of_a_living_libvirt_is_not_tried_again(opener: Opener) -> None:
    asked = 0

    def refuse(_session: Session) -> None:
        nonlocal asked
        asked += 1
        libvirt.virResetLastError()
        raise libvirt.libvirtError("not supported by this driver")

    conn = Connection(URI, timeout=5)
    with pytest.raises(SourceUnavailableError, match="not supported"):
        conn.call(refuse)
    assert asked == 1


def test_refused_open_is_one_line_with_the_uri(opener: Opener) -> None:
    # Else the error says what libvirt said last in this thread.
    libvirt.virResetLastError()
    opener.error = libvirt.libvirtError("Failed to\n connect socket")
    with pytest.raises(SourceUnavailableError) as caught:
        Connection(URI, hint="; look there").call(stats.states)
    assert str(caught.value) == (
        f"libvirt at {URI}: Failed to connect socket; look there"
    )


def test_hung_libvirt_costs_the_timeout_once_and_one_thread(
    opener: Opener,
) -> None:
    opener.wait_for = threading.Event()
    conn = Connection(URI, timeout=0.1)
    before = threading.active_count()
    with pytest.raises(SourceUnavailableError, match=r"within 0\.1 s"):
        conn.call(stats.states)
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(SourceUnavailableError, match="earlier call"):
            conn.call(stats.states)
    assert time.monotonic() - started < 1
    assert threading.active_count() == before + 1

    opener.wait_for.set()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert conn.call(stats.states)
    assert threading.active_count() == before


def test_a_block_closes_what_it_opened(opener: Opener) -> None:
    with (
        pytest.raises(SourceUnavailableError),
        Connection(URI) as conn,
    ):
        conn.call(refuse)
    assert opener.conns[0].closed


def test_a_block_does_not_wait_for_what_hangs(opener: Opener) -> None:
    hang = threading.Event()
    started = time.monotonic()
    with (
        pytest.raises(SourceUnavailableError, match=r"within 0\.1 s"),
        Connection(URI, timeout=0.1) as conn,
    ):
        conn.call(lambda _session: hang.wait(60))
    hang.set()
    assert time.monotonic() - started < 30
    assert not opener.conns[0].closed


def test_writes_where_that_is_wanted(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    writable = Opener()
    monkeypatch.setattr(libvirt, "open", writable)
    with Connection(URI, read_only=False) as conn:
        conn.call(stats.states)
    assert (len(opener.conns), len(writable.conns)) == (0, 1)


def test_no_thread_to_be_had_is_no_lasting_harm(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    conn = Connection(URI, timeout=5)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", fails)
        with pytest.raises(RuntimeError):
            conn.call(stats.states)
    assert conn.call(stats.states)


@pytest.mark.parametrize(
    ("number", "version"),
    [(9_000_000, (9, 0, 0)), (12_008_003, (12, 8, 3)), (1_003_003, (1, 3, 3))],
)
def test_version(number: int, version: tuple[int, int, int]) -> None:
    assert connection.version_of(number) == version
