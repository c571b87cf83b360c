# SPDX-License-Identifier: Apache-2.0
"""One polling cycle: look once, whatever the number of meters or threads."""

import threading
from typing import Any, Protocol

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.monitor import EMPTY, Report
from ceilometer_perf.reading import SourceUnavailableError

LOG = log.getLogger(__name__)

_KEY = "ceilometer_perf.cycle"
_changes = Changes(LOG)


class Looks(Protocol):
    """What a cycle asks, once: the monitor, or why there is none."""

    def look(self) -> Report:
        """See :meth:`ceilometer_perf.monitor.Monitor.look`."""


class Cycle:
    """What is known in one cycle. Its first reader pays, the others wait."""

    def __init__(self, monitor: Looks) -> None:
        self._monitor = monitor
        self._lock = threading.Lock()
        self._report: Report | None = None

    def report(self) -> Report:
        """The cycle's report; an empty one when there was none to get.

        A failure is remembered like a success: it is not tried again, and
        said once, until it changes.
        """
        with self._lock:
            if self._report is None:
                self._report = self._look()
            return self._report

    def _look(self) -> Report:
        try:
            report = self._monitor.look()
        except SourceUnavailableError as exc:
            why = str(exc)
        except Exception:
            # A bug of ours; the agent would log it for each meter.
            LOG.exception("Reading the perf counters failed")
            return EMPTY
        else:
            _changes.fine("source", "perf counters are read again")
            return report
        # Not above: within `except`, oslo.log appends the exception.
        _changes.trouble("source", why)
        return EMPTY


def current(cache: dict[str, Any], monitor: Looks) -> Cycle:
    """The cycle that ``cache`` belongs to.

    Ceilometer makes a new cache for each cycle and hands it to all pollsters
    of the cycle, in several threads perhaps, without a lock;
    ``dict.setdefault`` makes one of them win.
    """
    cycle: Cycle = cache.setdefault(_KEY, Cycle(monitor))
    return cycle
