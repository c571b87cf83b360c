# SPDX-License-Identifier: Apache-2.0
"""What Nova says of its servers, asked once for all who want to know."""

import threading
from typing import Any


class Servers:
    """Of all projects. Safe to call from several threads.

    A request takes Nova, Neutron and Keystone a share of a second, and many
    stories wait for a status at a time.
    """

    def __init__(self, admin: Any) -> None:
        """``admin``: an administrator's connection, nobody else's."""
        self._admin = admin
        self._lock = threading.Lock()
        self._begun = 0  # requests
        self._found: dict[str, Any] = {}

    def find(self, uuid: str) -> Any | None:
        """A server as it is now, None if there is none."""
        before = self._begun
        with self._lock:
            # What was asked for earlier may not know what just happened.
            if self._begun == before:
                self._begun += 1
                servers = self._admin.servers(all_projects=True)
                self._found = {each.id: each for each in servers}
            return self._found.get(uuid)
