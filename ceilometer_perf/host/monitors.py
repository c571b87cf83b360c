# SPDX-License-Identifier: Apache-2.0
"""libvirt's resctrl monitors, which a stuck guest can block.

The same libvirt call also queries QEMU's monitor, and waits for a QEMU that
doesn't answer. So this has its own connection, which nothing else waits for.
When it hangs, the next call is made on a new connection: libvirt then knows
that the stuck guest is busy, and leaves it out (NOWAIT).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import libvirt

from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.stats import monitor_stats
from ceilometer_perf.reading import SourceUnavailableError

Stats = Mapping[str, Mapping[str, Any]]
"""By instance UUID, then by libvirt's key."""

MOST_HELD_UP = 3  # connections; each takes one of libvirtd's workers


class Monitors:
    """Reads them. Not safe for threads."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """``connect`` makes a connection, with a deadline for calls."""
        self._connect = connect
        self._connection = connect()
        self._held_up: list[Connection] = []
        # What follows belongs to the connection's thread.
        self._session: Session | None = None
        self._domains: dict[str, libvirt.virDomain] = {}

    def read(self, uuids: Collection[str]) -> Stats:
        """Of these running instances; those that can't be read are left out.

        :raises SourceUnavailableError: no answer, or not in time.
        """
        self._replace_a_blocked_one()
        try:
            return self._connection.call(lambda s: self._ask(s, uuids))
        except SourceUnavailableError as exc:
            raise SourceUnavailableError(
                f"{exc}; a hung QEMU may be the reason"
            ) from exc

    def _replace_a_blocked_one(self) -> None:
        for connection in self._held_up:
            if not connection.is_busy:
                _let_go(connection)
        self._held_up = [c for c in self._held_up if c.is_busy]
        if self._connection.is_busy and len(self._held_up) < MOST_HELD_UP:
            self._held_up.append(self._connection)
            self._connection = self._connect()

    def _ask(self, session: Session, uuids: Collection[str]) -> Stats:
        # A domain is known to one connection only.
        known = self._domains if session is self._session else {}
        found = {
            uuid: domain
            for uuid in uuids
            if (domain := known.get(uuid) or _look_up(session, uuid))
        }
        self._session, self._domains = session, found
        return monitor_stats(session, list(found.values()))


def _look_up(session: Session, uuid: str) -> libvirt.virDomain | None:
    """The domain; None when it is gone."""
    try:
        return session.conn.lookupByUUIDString(uuid)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return None


def _let_go(connection: Connection) -> None:
    try:
        connection.close()
    except SourceUnavailableError:  # libvirtd itself hangs by now
        connection.start_over()
