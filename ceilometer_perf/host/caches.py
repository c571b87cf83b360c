# SPDX-License-Identifier: Apache-2.0
"""The host's last-level caches, as libvirt's capabilities declare them."""

from collections.abc import Mapping

from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.probe import virt


class Caches:
    """Asked for once per connection: they don't change while it is open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # What follows belongs to the connection's thread.
        self._session: Session | None = None
        self._l3: Mapping[int, int] = {}

    def l3(self) -> Mapping[int, int]:
        """Bytes of each L3 cache by its id; empty where none is declared.

        The ids are those that resctrl uses: both are the kernel's.

        :raises SourceUnavailableError: libvirt doesn't say.
        """
        return self._connection.call(self._ask)

    def _ask(self, session: Session) -> Mapping[int, int]:
        if session is not self._session:
            banks, _ = virt.caches(session.conn.getCapabilities())
            self._l3 = {bank.id: bank.size for bank in banks}
            self._session = session
        return self._l3
