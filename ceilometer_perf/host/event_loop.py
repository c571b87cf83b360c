# SPDX-License-Identifier: Apache-2.0
"""libvirt's event loop, and which domains it says have changed.

The loop also answers and sends keepalive messages, without which a call to a
hung libvirtd would wait for ever.
"""

import contextlib
import os
import threading
import time

import libvirt
from oslo_log import log

LOG = log.getLogger(__name__)

#: After these a domain's XML may read differently.
IDS = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_TUNABLE,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
)

_PAUSE = 1.0  # seconds, after an error of the loop's own


class _Loop:
    """libvirt's default event loop, in a thread of ours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid: int | None = None

    def runs(self) -> bool:
        """Start it unless it runs; False where it can't be.

        libvirt can't take a loop back, and in a fork that loop would read
        from its parent's connections: a fork of a process that had one goes
        without.
        """
        with self._lock:
            if self._pid is None:
                libvirt.virEventRegisterDefaultImpl()
                threading.Thread(
                    target=_run, name="ceilometer-perf-events", daemon=True
                ).start()
                self._pid = os.getpid()
            return self._pid == os.getpid()


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as exc:
            LOG.warning("libvirt's event loop: %s", exc)
            time.sleep(_PAUSE)


_loop = _Loop()
#: To be called before a connection is opened: only then it joins the loop.
loop_runs = _loop.runs


class DomainEvents:
    """The domains that one connection says have changed."""

    def __init__(self) -> None:
        self._heard = False
        self._ids: list[int] = []
        self._changed: set[str] = set()
        self._lock = threading.Lock()

    def listen(self, conn: libvirt.virConnect) -> None:
        """Receive every change from now on.

        :raises libvirt.libvirtError: this libvirt does not report them all.
        """
        try:
            for event in IDS:
                self._ids.append(
                    conn.domainEventRegisterAny(None, event, self._note, None)
                )
        except libvirt.libvirtError:
            self.stop(conn)
            raise
        self._heard = True

    def stop(self, conn: libvirt.virConnect) -> None:
        """Release the connection, which the callbacks keep alive."""
        self._heard = False
        for number in self._ids:
            # On a broken connection they are gone anyway.
            with contextlib.suppress(libvirt.libvirtError):
                conn.domainEventDeregisterAny(number)
        self._ids.clear()

    def take(self) -> set[str] | None:
        """UUIDs of the domains that changed since the last call.

        None if this connection delivers no events: any may have changed.
        """
        if not self._heard:
            return None
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def _note(
        self, _conn: object, domain: libvirt.virDomain, *_details: object
    ) -> None:
        with self._lock:
            self._changed.add(domain.UUIDString())
