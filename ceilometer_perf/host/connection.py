# SPDX-License-Identifier: Apache-2.0
"""A libvirt connection that survives libvirtd: the only way to call it.

Opened at the first call, so after the agent has forked; opened again when
it broke. Every call has a deadline, and keepalive ends what hangs.
"""

import atexit
import contextlib
import math
import os
import threading
import weakref
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import libvirt
import tenacity

from ceilometer_perf.events import Version
from ceilometer_perf.host import daemon
from ceilometer_perf.host.calls import in_thread
from ceilometer_perf.host.event_loop import DomainEvents, loop_runs
from ceilometer_perf.reading import SourceUnavailableError

T = TypeVar("T")

PATIENCE = 15.0  # seconds, of a command


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection, the version of the libvirt behind it, its events.

    ``in_loop``: libvirt's event loop runs, without which there are none.
    """

    conn: libvirt.virConnect
    version: Version
    events: DomainEvents = field(default_factory=DomainEvents)
    in_loop: bool = False

    @property
    def version_text(self) -> str:
        """For people: ``9.0.0``."""
        return ".".join(map(str, self.version))

    @property
    def hypervisor(self) -> Version | None:
        """QEMU's version; None where libvirt finds no QEMU."""
        try:
            return version_of(self.conn.getVersion())
        except libvirt.libvirtError:
            return None

    def listen(self) -> None:
        """Receive every change from now on, if possible.

        :raises libvirt.libvirtError: this libvirt does not report them all.
        """
        if self.in_loop:
            self.events.listen(self.conn)

    def close(self) -> None:
        """Release everything it holds, whether libvirtd is there or not."""
        self.events.stop(self.conn)
        with contextlib.suppress(libvirt.libvirtError):
            self.conn.close()

    def abandon(self) -> None:
        """Never use it again, and don't close it: closing asks libvirtd.

        libvirtd closes its end when this process ends.
        """
        # As virConnect.close() does; virConnect.__del__ then won't close it.
        self.conn._o = None


class Connection:
    """One connection, opened when first used.

    It stays open until :meth:`close` or the end of the process; as a context
    manager, until the end of the block.
    """

    def __init__(
        self,
        uri: str,
        timeout: float = PATIENCE,
        *,
        read_only: bool = True,
        hint: str = "",
    ) -> None:
        """``timeout``: seconds that one call may take, opening included.

        ``hint`` ends each message of a failure: what to look at.
        """
        self.uri = uri
        self._timeout = timeout
        self._read_only = read_only
        self._hint = hint
        self._session: Session | None = None
        self._reset()
        _connections.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.is_busy:  # closing a hung connection would hang as well
            self.start_over()
        else:
            self.close()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._pending: futures.Future[Any] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an earlier call still waits for its answer."""
        return self._pending is not None and not self._pending.done()

    def start_over(self) -> None:
        """Abandon an open connection; the next call opens a new one.

        For a forked child, since the connection is its parent's, and for a
        process that exits, which must not wait for libvirtd. A child that was
        forked amid a call may hang all the same: it gets GLib's and libvirt's
        locks as they were (fork(2)).
        """
        session, self._session = self._session, None
        if session is not None:
            session.abandon()
        self._reset()

    def close(self) -> None:
        """Close what is open; the next call opens it again.

        :raises SourceUnavailableError: libvirtd hangs, and so would closing.
        """
        with self._lock:
            self._wait_for(self._start(self._close))

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def call(self, question: Callable[[Session], T]) -> T:
        """Ask libvirt, in a connection that is open by then.

        :raises SourceUnavailableError: no answer, an error for an answer,
            or not in time. The next call tries again.
        """
        with self._lock:
            return self._wait_for(self._start(lambda: self._ask(question)))

    def _wait_for(self, answer: futures.Future[T]) -> T:
        try:
            return answer.result(self._timeout)
        except TimeoutError:
            raise self._unavailable(
                f"no answer within {self._timeout:g} s "
                f"(is {daemon.name()} stopped or stuck?)"
            ) from None
        except libvirt.libvirtError as exc:
            raise self._unavailable(str(exc)) from exc

    def _start(self, work: Callable[[], T]) -> futures.Future[T]:
        # What hangs keeps its thread until libvirtd goes on or dies; nothing
        # is asked before that, so there is never more than one.
        if self.is_busy:
            raise self._unavailable("still no answer to an earlier call")
        # Set only now: if no thread can be started, there is nothing to wait
        # for.
        answer = self._pending = in_thread(work, "libvirt")
        return answer

    def _ask(self, question: Callable[[Session], T]) -> T:
        # A connection may show that its libvirtd went away only when it is
        # used, so the first failure says nothing yet about the new one.
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._is_broken),
            stop=tenacity.stop_after_attempt(2),
            after=lambda _: self._close(),
            reraise=True,
        ):
            with attempt:
                return question(self._opened())
        raise AssertionError("tenacity returns or raises")

    def _is_broken(self, exc: BaseException) -> bool:
        return (
            isinstance(exc, libvirt.libvirtError)
            and self._session is not None
            and is_broken(self._session.conn, exc)
        )

    def _opened(self) -> Session:
        session = self._session
        if session is None or not session.conn.isAlive():
            self._close()
            session = self._session = self._open()
        return session

    def _open(self) -> Session:
        # Otherwise libvirt also writes to stderr what it raises.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        in_loop = loop_runs()
        connect = libvirt.openReadOnly if self._read_only else libvirt.open
        conn = connect(self.uri)
        if in_loop:
            # Sent after one interval of silence; no answer for another is
            # the end.
            interval = max(1, math.ceil(self._timeout / 2))
            # Local drivers have no keepalive, and no daemon that could hang.
            with contextlib.suppress(libvirt.libvirtError):
                conn.setKeepAlive(interval, 1)
        version = version_of(conn.getLibVersion())
        return Session(conn, version, in_loop=in_loop)

    def _unavailable(self, why: str) -> SourceUnavailableError:
        told = " ".join(f"libvirt at {self.uri}: {why}".split())
        hint = f"; {UNKNOWN_USER}" if is_of_unknown_user(why) else self._hint
        return SourceUnavailableError(told + hint)


def is_broken(conn: libvirt.virConnect, exc: libvirt.libvirtError) -> bool:
    """Whether it was not libvirt that failed, but the connection to it.

    One to virtproxyd stays alive when the daemon behind it has gone, and then
    every call fails.
    """
    return exc.get_error_domain() in _TRANSPORT or not conn.isAlive()


_TRANSPORT = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)

UNKNOWN_USER = (
    f"the host doesn't know this user (uid {os.geteuid()}), as that of a "
    "container: create it on the host, where libvirt's daemon runs (useradd "
    f"--system --uid {os.geteuid()} ceilometer)"
)


def is_of_unknown_user(why: str) -> bool:
    """Whether libvirt refuses a user whom it can't look up."""
    return "Failed to find user record for uid" in why


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _start_over() -> None:
    for connection in list(_connections):
        connection.start_over()


os.register_at_fork(after_in_child=_start_over)
atexit.register(_start_over)


def version_of(number: int) -> Version:
    """9001002 is 9.1.2 (``virConnectGetLibVersion``)."""
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000
