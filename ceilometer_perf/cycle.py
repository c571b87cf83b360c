# SPDX-License-Identifier: Apache-2.0
"""One polling cycle: look once, whatever the number of meters or threads."""

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.monitor import EMPTY, Report
from ceilometer_perf.rdt import RdtReport
from ceilometer_perf.reading import SourceUnavailableError

LOG = log.getLogger(__name__)

T = TypeVar("T")

_KEY = "ceilometer_perf.cycle"
_changes = Changes(LOG)


class Looks(Protocol):
    """What a cycle asks, once: the monitor, or why there is none."""

    def look(self) -> Report:
        """See :meth:`ceilometer_perf.monitor.Monitor.look`."""

    def look_at_rdt(self, report: Report) -> RdtReport:
        """See :meth:`ceilometer_perf.rdt.Rdt.look`."""


class Cycle:
    """What is known in one cycle. Its first reader pays, the others wait."""

    def __init__(self, monitor: Looks) -> None:
        self._monitor = monitor
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._rdt: RdtReport | None = None

    def report(self) -> Report:
        """The cycle's report; an empty one when there was none to get.

        A failure is remembered like a success: it is not tried again, and
        said once, until it changes.
        """
        with self._lock:
            return self._look()

    def rdt(self) -> RdtReport:
        """The same for L3 occupancy and bandwidth, read only if asked for."""
        with self._lock:
            if self._rdt is None:
                report = self._look()
                self._rdt = _tried(
                    "L3 occupancy and memory bandwidth",
                    lambda: self._monitor.look_at_rdt(report),
                    RdtReport(),
                )
            return self._rdt

    def _look(self) -> Report:
        if self._report is None:
            self._report = _tried("perf counters", self._monitor.look, EMPTY)
        return self._report


def _tried(what: str, look: Callable[[], T], nothing: T) -> T:
    """What a look tells; nothing if it fails, which is said once."""
    try:
        found = look()
    except SourceUnavailableError as exc:
        why = str(exc)
    except Exception:
        # A bug of ours; the agent would log it for each meter.
        LOG.exception("Reading %s failed", what)
        return nothing
    else:
        _changes.fine(what, f"{what} are read again")
        return found
    # Not above: within `except`, oslo.log appends the exception.
    _changes.trouble(what, why)
    return nothing


def current(cache: dict[str, Any], monitor: Looks) -> Cycle:
    """The cycle that ``cache`` belongs to.

    Ceilometer makes a new cache for each cycle and hands it to all pollsters
    of the cycle, in several threads perhaps, without a lock;
    ``dict.setdefault`` makes one of them win.
    """
    cycle: Cycle = cache.setdefault(_KEY, Cycle(monitor))
    return cycle
