# SPDX-License-Identifier: Apache-2.0
"""A read-only libvirt connection that survives libvirtd.

Opened at the first call, so after the agent has forked; opened again when
it broke. Every call has a deadline.
"""

import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any, TypeVar

import libvirt
import tenacity
from oslo_log import log

from ceilometer_perf.reading import SourceUnavailableError

LOG = log.getLogger(__name__)

T = TypeVar("T")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection, and the version of the libvirt behind it."""

    conn: libvirt.virConnect
    version: Version

    @property
    def version_text(self) -> str:
        """For people: ``9.0.0``."""
        return ".".join(map(str, self.version))


class Connection:
    """One connection, shared by all pollsters of the process."""

    def __init__(self, uri: str, timeout: float) -> None:
        """``timeout``: seconds that one call may take, opening included."""
        self.uri = uri
        self._timeout = timeout
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._pending: futures.Future[Any] | None = None

    def call(self, question: Callable[[Session], T]) -> T:
        """Ask libvirt, in a connection that is open by then.

        :raises SourceUnavailableError: no answer, an error for an answer,
            or not in time. The next call tries again.
        """
        with self._lock:
            answer = self._start(question)
            try:
                return answer.result(self._timeout)
            except TimeoutError:
                raise self._unavailable(
                    f"no answer within {self._timeout:g} s "
                    "([perf] libvirt_timeout)"
                ) from None
            except libvirt.libvirtError as exc:
                raise self._unavailable(str(exc)) from exc

    def _start(self, question: Callable[[Session], T]) -> futures.Future[T]:
        # A libvirt call can't be cancelled. What hangs keeps its thread
        # until libvirtd goes on or dies; nothing is asked before that, so
        # there is never more than one. The thread is a daemon: a hung
        # libvirtd does not keep the agent from stopping.
        if self._pending is not None and not self._pending.done():
            raise self._unavailable("still no answer to an earlier call")
        answer: futures.Future[T] = futures.Future()
        self._pending = answer
        threading.Thread(
            target=self._answer,
            args=(answer, question),
            name="ceilometer-perf-libvirt",
            daemon=True,
        ).start()
        return answer

    def _answer(
        self, answer: futures.Future[T], question: Callable[[Session], T]
    ) -> None:
        try:
            answer.set_result(self._ask(question))
        except Exception as exc:
            answer.set_exception(exc)

    def _ask(self, question: Callable[[Session], T]) -> T:
        # A connection shows that its libvirtd went away only when it is
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
        if self._session is None or not self._session.conn.isAlive():
            self._session = None
            self._session = _open(self.uri)
        return self._session

    def _unavailable(self, why: str) -> SourceUnavailableError:
        return SourceUnavailableError(
            f"libvirt at {self.uri}: {why}; no perf samples until it "
            "answers (does libvirtd run, is [DEFAULT] libvirt_uri right?)"
        )


def _open(uri: str) -> Session:
    libvirt.registerErrorHandler(_errors_are_raised, None)
    conn = libvirt.openReadOnly(uri)
    session = Session(conn, _version(conn.getLibVersion()))
    LOG.info("Connected to libvirt %s at %s", session.version_text, uri)
    return session


def _version(number: int) -> Version:
    """9001002 is 9.1.2 (``virConnectGetLibVersion``)."""
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000


def _errors_are_raised(_context: object, _error: object) -> None:
    """Keep libvirt from writing each error to stderr as well."""
