# SPDX-License-Identifier: Apache-2.0
"""The perf events that libvirt counts for each domain."""

import time
from collections.abc import Mapping

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.stats import perf_stats
from ceilometer_perf.meters import METERS
from ceilometer_perf.reading import Counters, Reading


class PerfSource:
    """All perf events of all instances, for one libvirt call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes = Changes(log.getLogger(__name__))

    def read(self) -> Reading:
        """One bulk call; see :class:`ceilometer_perf.sources.Source`."""
        instances = self._connection.call(self._ask)
        return Reading(taken_at=time.monotonic(), instances=instances)

    def _ask(self, session: Session) -> Mapping[str, Counters]:
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
        return perf_stats(session)
