# SPDX-License-Identifier: Apache-2.0
"""A read-only libvirt connection that survives libvirtd.

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
from typing import Any, TypeVar

import libvirt
import tenacity
from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.events import Version
from ceilometer_perf.host import deadline
from ceilometer_perf.host.event_loop import Events, loop_runs
from ceilometer_perf.reading import SourceUnavailableError

LOG = log.getLogger(__name__)

_changes = Changes(LOG)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection, the version of the libvirt behind it, its events."""

    conn: libvirt.virConnect
    version: Version
    events: Events = field(default_factory=Events)

    @property
    def version_text(self) -> str:
        """For people: ``9.0.0``."""
        return ".".join(map(str, self.version))

    def close(self) -> None:
        """Let go of all that it holds, whether libvirtd is there or not."""
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

    It stays open until :meth:`close` or the end of the process.
    """

    def __init__(self, uri: str, timeout: float) -> None:
        """``timeout``: seconds that one call may take, opening included."""
        self.uri = uri
        self._timeout = timeout
        self._session: Session | None = None
        self._reset()
        _connections.add(self)

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
        process that exits, which must not wait for libvirtd.
        """
        session, self._session = self._session, None
        if session is not None:
            session.abandon()
        self._reset()

    def close(self) -> None:
        """Close what is open; the next call opens it again.

        :raises SourceUnavailableError: libvirtd hangs, and so would this.
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
                "([perf] libvirt_timeout)"
            ) from None
        except libvirt.libvirtError as exc:
            raise self._unavailable(str(exc)) from exc

    def _start(self, work: Callable[[], T]) -> futures.Future[T]:
        # What hangs keeps its thread until libvirtd goes on or dies; nothing
        # is asked before that, so there is never more than one.
        if self.is_busy:
            raise self._unavailable("still no answer to an earlier call")
        # Set only then: where no thread can be started is nothing to wait for.
        answer = self._pending = deadline.start(work)
        return answer

    def _ask(self, question: Callable[[Session], T]) -> T:
        # A connection may show that its libvirtd went away only when it is
        # used, so the first failure says nothing yet about the new one.
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._is_broken),
            stop=tenacity.stop_after_attempt(2),
            reraise=True,
        ):
            with attempt:
                return question(self._opened())
        raise AssertionError("tenacity returns or raises")

    def _is_broken(self, exc: BaseException) -> bool:
        return (
            isinstance(exc, libvirt.libvirtError)
            and self._session is not None
            and not self._session.conn.isAlive()
        )

    def _opened(self) -> Session:
        session = self._session
        if session is None or not session.conn.isAlive():
            self._close()
            session = self._session = _open(self.uri, self._timeout)
        return session

    def _unavailable(self, why: str) -> SourceUnavailableError:
        return SourceUnavailableError(
            f"libvirt at {self.uri}: {why}; no perf samples until it "
            "answers (does libvirtd run, is [DEFAULT] libvirt_uri right?)"
        )


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _start_over() -> None:
    for connection in list(_connections):
        connection.start_over()


os.register_at_fork(after_in_child=_start_over)
atexit.register(_start_over)


def _open(uri: str, timeout: float) -> Session:
    quieten()
    watched = loop_runs()
    conn = libvirt.openReadOnly(uri)
    session = Session(conn, version_of(conn.getLibVersion()))
    LOG.info("Connected to libvirt %s at %s", session.version_text, uri)
    if watched:
        _watch(session, uri, timeout)
    return session


def _watch(session: Session, uri: str, timeout: float) -> None:
    """Have libvirt tell when it hangs, and when domains change."""
    # Sent after one interval of silence; no answer for another is the end.
    interval = max(1, math.ceil(timeout / 2))
    # What is not remote can't do it, and has nobody who could hang.
    with contextlib.suppress(libvirt.libvirtError):
        session.conn.setKeepAlive(interval, 1)
    try:
        session.events.listen(session.conn)
    except libvirt.libvirtError as exc:
        if not session.conn.isAlive():
            raise
        why = str(exc)
    else:
        _changes.fine(uri, f"libvirt at {uri} tells what changes again")
        return
    # Not above: within `except`, oslo.log appends the exception.
    _changes.trouble(
        uri,
        f"libvirt at {uri} does not tell what changes ({why}): the XML of "
        "every domain is read in every cycle",
    )


def version_of(number: int) -> Version:
    """9001002 is 9.1.2 (``virConnectGetLibVersion``)."""
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000


def quieten() -> None:
    """Keep libvirt from writing to stderr what it raises as well."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
