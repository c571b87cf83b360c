# SPDX-License-Identifier: Apache-2.0
"""The perf events that libvirt counts for each domain."""

import time
from collections.abc import Mapping
from typing import Any

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.inventory import Inventory
from ceilometer_perf.host.stats import Failures, perf_stats
from ceilometer_perf.meters import METERS
from ceilometer_perf.reading import Counters, Reading


class PerfSource:
    """All perf events of all instances, for one libvirt call."""

    def __init__(
        self,
        connection: Connection,
        inventory: Inventory,
        *,
        realtime: bool = False,
    ) -> None:
        """``realtime``: whether to read realtime guests, too."""
        self._connection = connection
        self._inventory = inventory
        self._realtime = realtime
        self._changes = Changes(log.getLogger(__name__))

    def read(self) -> Reading:
        """One bulk call; of all that run.

        :raises SourceUnavailableError: there is no reading in this cycle.
        """
        domains = self._inventory.domains()
        wanted = [
            domain.handle
            for domain in domains.values()
            if domain.id >= 0 and (self._realtime or not domain.realtime)
        ]
        asked_at = time.monotonic()
        instances, failed = self._connection.call(
            lambda session: self._ask(session, wanted)
        )
        return Reading(
            asked_at, time.monotonic(), domains, instances, failed=failed
        )

    def _ask(
        self, session: Session, domains: list[Any]
    ) -> tuple[Mapping[str, Counters], Failures]:
        missing = [m.name for m in METERS if m.since > session.version]
        if missing:
            self._changes.trouble(
                "events",
                f"libvirt {session.version_text} is too old for "
                f"{', '.join(missing)}: no samples of these; the others "
                "are polled",
            )
        else:
            self._changes.fine("events", "libvirt knows every perf event now")
        return perf_stats(session, domains)
