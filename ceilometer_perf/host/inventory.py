# SPDX-License-Identifier: Apache-2.0
"""The domains of this host, known without asking for each of them.

Their states come from one bulk call. A domain's XML is read when it is new,
when it got another name or id, and when libvirt says that it changed.
"""

import dataclasses
import threading
import time
from collections.abc import Mapping

import libvirt
from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.guest import errors, slice_metadata, xml
from ceilometer_perf.guest.elements import perf, vcpusched
from ceilometer_perf.host.connection import Connection, Session, is_broken
from ceilometer_perf.host.stats import states
from ceilometer_perf.reading import Guest

LOG = log.getLogger(__name__)

#: For how long polling uses the answer that discovery got just before.
_CYCLE = 5.0  # seconds


#: Names of the values of ``virDomainState``.
_STATES = {
    getattr(libvirt, f"VIR_DOMAIN_{name.upper()}"): name
    for name in (
        "nostate", "running", "blocked", "paused", "shutdown", "shutoff",
        "crashed", "pmsuspended",
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Domain(Guest):
    """A domain as it was when it was looked at last."""

    uuid: str
    #: A ``virDomainState``.
    state: int
    #: For libvirt calls on this domain.
    handle: libvirt.virDomain = dataclasses.field(compare=False, repr=False)

    @property
    def state_text(self) -> str:
        """The state for people, as libvirt calls it: ``shutoff``."""
        return _STATES.get(self.state, f"state {self.state}")


Domains = Mapping[str, Domain]
"""By UUID."""


class Inventory:
    """All domains of this host. Safe to call from several threads."""

    def __init__(
        self, connection: Connection, refresh_interval: float
    ) -> None:
        """``refresh_interval``: seconds until everything is read again.

        An event may have been lost.
        """
        self._connection = connection
        self._interval = refresh_interval
        self._changes = Changes(LOG)
        self._lock = threading.Lock()
        self._refreshes = 0
        self._domains: Domains = {}
        #: Until when the domains are the cycle's.
        self._fresh_until = 0.0
        # What follows belongs to the connection's thread, of which there is
        # never more than one: what it learns late is not lost.
        self._session: Session | None = None
        self._known: dict[str, Domain] = {}
        self._anew_at = 0.0

    def refresh(self) -> Domains:
        """The domains as they are now; unchanged ones are the same objects.

        A thread that calls this while another one does gets that answer.

        :raises SourceUnavailableError: libvirt doesn't say.
        """
        before = self._refreshes
        with self._lock:
            if self._refreshes == before:
                self._refresh()
            return self._domains

    def domains(self) -> Domains:
        """What discovery found in this cycle; asks libvirt if it did not run.

        An answer of :meth:`refresh` is returned once only, so that a cycle
        without this discovery does not get that of the cycle before.

        :raises SourceUnavailableError: libvirt doesn't say.
        """
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._refresh()
            self._fresh_until = 0.0
            return self._domains

    def _refresh(self) -> None:
        self._fresh_until = 0.0
        self._domains = self._connection.call(self._look)
        self._fresh_until = time.monotonic() + _CYCLE
        self._refreshes += 1

    def _look(self, session: Session) -> Domains:
        if session is not self._session:
            # Handles of another connection are dead.
            self._session, self._known, self._anew_at = session, {}, 0.0
            self._listen(session)
        found = {d.UUIDString(): (d, state) for d, state in states(session)}
        # Asked for after the states and before the XML, so that what changes
        # in the meantime is read now or is in the next answer.
        changed = session.events.take()
        now = time.monotonic()
        if changed is None or now >= self._anew_at:
            changed, self._anew_at = set(found), now + self._interval
        self._known = {
            uuid: domain
            for uuid, (handle, state) in found.items()
            if (domain := self._domain(handle, state, uuid in changed))
        }
        self._changes.forget_all_but({*found, self._connection.uri})
        return self._known

    def _listen(self, session: Session) -> None:
        """Have libvirt report changes of domains."""
        uri = self._connection.uri
        LOG.info("Connected to libvirt %s at %s", session.version_text, uri)
        try:
            session.listen()
        except libvirt.libvirtError as exc:
            if is_broken(session.conn, exc):
                raise
            why = str(exc)
        else:
            self._changes.fine(uri, f"libvirt at {uri} sends events again")
            return
        # Not above: within `except`, oslo.log appends the exception.
        self._changes.trouble(
            uri,
            f"libvirt at {uri} sends no events ({why}): the XML of every "
            "domain is read in every cycle",
        )

    def _domain(
        self, handle: libvirt.virDomain, state: int, changed: bool
    ) -> Domain | None:
        """The domain; None if it is gone or its XML can't be read."""
        uuid = handle.UUIDString()
        known = self._known.get(uuid)
        same = known and (known.name, known.id) == (handle.name(), handle.ID())
        if known is None or changed or not same:
            domain = self._read(handle, uuid, state)
            return known if domain == known else domain
        if known.state != state:
            return dataclasses.replace(known, state=state)
        return known

    def _read(
        self, handle: libvirt.virDomain, uuid: str, state: int
    ) -> Domain | None:
        try:
            text = handle.XMLDesc(0)
            root = xml.parse(text).getroot()
            domain = Domain(
                uuid=uuid,
                name=handle.name(),
                id=handle.ID(),
                state=state,
                xml=text,
                realtime=vcpusched.is_realtime(root),
                slice=slice_metadata.name_in(root),
                undefined=_undefined(handle, root),
                handle=handle,
            )
        except libvirt.libvirtError as exc:
            if is_broken(handle.connect(), exc):
                raise
            if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None  # it disappeared between the two calls
            why = str(exc)
        except errors.DomainXMLError as exc:
            why = str(exc)
        else:
            self._changes.fine(uuid, f"domain {uuid} can be read again")
            return domain
        # Not above: within `except`, oslo.log appends the exception.
        self._changes.trouble(
            uuid,
            f"domain {uuid} ({handle.name()}): no perf samples, its XML "
            f"can't be read ({why}); the others are polled",
        )
        return None


def _undefined(handle: libvirt.virDomain, root: xml.Element) -> frozenset[str]:
    """See :class:`.Guest`; none of a transient domain.

    Of that libvirt returns the same XML twice.
    """
    running = perf.enabled(root)
    if handle.ID() < 0 or not running:
        return frozenset()
    definition = handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    defined = perf.enabled(xml.parse(definition).getroot())
    return frozenset(f"perf.{event}" for event in {*running} - {*defined})
