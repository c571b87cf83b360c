# SPDX-License-Identifier: Apache-2.0
"""The host's last-level caches, as libvirt's capabilities declare them."""

from collections.abc import Mapping

from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.probe import virt


class Caches:
    """Asked for once per connection, and again when one is seen that is new.

    libvirt declares none whose CPUs are all off, and Nova turns off those that
    no instance has ([libvirt] cpu_power_management).
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # What follows belongs to the connection's thread.
        self._session: Session | None = None
        self._l3: Mapping[int, int] = {}
        #: Those that it was asked for, declared or not.
        self._asked: frozenset[int] = frozenset()

    def l3(self, seen: frozenset[int]) -> Mapping[int, int]:
        """Bytes of each L3 cache by its id; empty where none is declared.

        The ids are those that resctrl uses: both are the kernel's. ``seen``
        are those in use.

        :raises SourceUnavailableError: libvirt doesn't say.
        """
        return self._connection.call(lambda session: self._ask(session, seen))

    def _ask(
        self, session: Session, seen: frozenset[int]
    ) -> Mapping[int, int]:
        if session is not self._session or not seen <= self._asked:
            banks, _ = virt.caches(session.conn.getCapabilities())
            self._l3 = {**self._l3, **{bank.id: bank.size for bank in banks}}
            self._asked = self._asked | seen | self._l3.keys()
            self._session = session
        return self._l3
