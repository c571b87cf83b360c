# SPDX-License-Identifier: Apache-2.0
"""A helper that can't be started is not asked for in each cycle."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from oslo_config import cfg
from oslo_privsep import comm, daemon

from ceilometer_perf import privsep


class Starts:
    """Of helpers; ``refusal``: by default, sudo says no."""

    def __init__(self) -> None:
        self.asked = 0
        self.refusal: Exception | None = daemon.FailedToDropPrivileges(
            "exited non-zero (1)"
        )

    def ask(self, call: Callable[[], None]) -> None:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    starts = Starts()
    monkeypatch.setattr(privsep, "_Process", lambda context: starts)
    return starts


@pytest.fixture
def helper() -> Iterator[privsep.Helper]:
    yield privsep.Helper("sudo privsep-helper")
    for context in (privsep.context, privsep.counting):
        cfg.CONF.clear_override("helper_command", context.cfg_section)


def test_asked_again_after_a_pause(
    starts: Starts, helper: privsep.Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    for _ in range(3):
        with pytest.raises(daemon.FailedToDropPrivileges):
            helper.watch("instance-1", "uuid")
    assert starts.asked == 1
    now += privsep.PAUSE
    starts.refusal = None
    for _ in range(3):
        helper.release("uuid")
    assert starts.asked == 4


def test_what_the_helper_itself_says_is_no_refusal(
    starts: Starts, helper: privsep.Helper
) -> None:
    starts.refusal = ProcessLookupError(3, "the instance is not running")
    for _ in range(2):
        with pytest.raises(ProcessLookupError):
            helper.watch("instance-1", "uuid")
    assert starts.asked == 2


class Hung:
    """A context whose helpers hang, each at the other end of a socket."""

    pypath = "hung"

    def __init__(self) -> None:
        self.channel: comm.ClientChannel | None = None
        self.helpers: list[socket.socket] = []
        self.process = privsep._Process(self)  # type: ignore[arg-type]

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        self.helpers.append(theirs)
        self.channel = comm.ClientChannel(ours)

    def call(self) -> None:
        raise comm.PrivsepTimeout

    def ask(self) -> None:
        self.process.ask(self.call)


def test_helpers_that_hang_do_not_pile_up() -> None:
    hung = Hung()
    for _ in range(2):
        with pytest.raises(comm.PrivsepTimeout):
            hung.ask()
    for _ in range(5):
        with pytest.raises(daemon.FailedToDropPrivileges, match="3 helpers"):
            hung.ask()
    assert len(hung.helpers) == privsep.MOST_HUNG
    # It is told that nobody waits for it any more.
    assert hung.helpers[0].recv(1) == b""
    reader = hung.process._hung[0].reader_thread
    hung.helpers[0].close()
    reader.join()
    with pytest.raises(daemon.FailedToDropPrivileges):
        hung.ask()
    assert len(hung.helpers) == privsep.MOST_HUNG + 1
    for helper in hung.helpers:
        helper.close()


def test_a_command_that_waits_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As sudo's for a directory of users that is down."""
    monkeypatch.setattr(privsep, "START", 0.01)
    is_up = threading.Event()
    hung = Hung()
    start = hung.start
    starts: list[None] = []

    def waits() -> None:
        starts.append(None)
        is_up.wait()
        start()

    hung.start = waits  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(daemon.FailedToDropPrivileges, match=r"0\.01 s"):
            hung.ask()
    is_up.set()
    assert hung.process._starting is not None
    hung.process._starting.result()
    hung.call = lambda: None  # type: ignore[method-assign]
    hung.ask()
    assert len(starts) == len(hung.helpers) == 1
    hung.helpers[0].close()
