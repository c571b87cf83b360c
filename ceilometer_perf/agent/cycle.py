# SPDX-License-Identifier: Apache-2.0
"""One polling cycle: read once, for any number of meters and threads."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.counters.monitor import EMPTY, Report
from ceilometer_perf.meters import NEIGHBOUR_KEYS, RDT_KEYS, WAITING_KEYS
from ceilometer_perf.neighbours.look import NeighbourReport
from ceilometer_perf.neighbours.waiting import WaitingReport
from ceilometer_perf.rdt.look import RdtReport
from ceilometer_perf.reading import Published, SourceUnavailableError
from ceilometer_perf.wiring import Misconfigured, Parts

LOG = log.getLogger(__name__)

T = TypeVar("T")

_KEY = "ceilometer_perf.agent.cycle"
_changes = Changes(LOG)


class Cycle:
    """The readings of one polling cycle, shared by all its pollsters.

    The first pollster that asks has the counters read; the others wait for
    that reading and share it.
    """

    def __init__(self, parts: Parts | Misconfigured) -> None:
        self._parts = parts
        self._found: dict[str, Any] = {}
        # Some is made of others.
        self._lock = threading.RLock()

    def published(self, key: str) -> Mapping[str, Published]:
        """What may be published, by instance UUID, of one meter's kind."""
        if key in RDT_KEYS:
            return self.rdt().published
        if key in WAITING_KEYS:
            return self.waiting().published
        if key in NEIGHBOUR_KEYS:
            return self.neighbours().published
        return self.report().published

    def report(self) -> Report:
        """The counters; nothing is read before somebody asks.

        If it fails, the answer is an empty one: it is not tried again before
        the next cycle, and logged only when it differs from the last one. So
        it is with the others.
        """
        return self._once("perf counters", self._parts.look, EMPTY)

    def rdt(self) -> RdtReport:
        """L3 occupancy and memory bandwidth."""
        return self._beside(
            "L3 occupancy and memory bandwidth",
            self._parts.look_at_rdt,
            RdtReport(),
        )

    def waiting(self) -> WaitingReport:
        """What instances waited for."""
        return self._beside(
            "waiting times", self._parts.look_at_waiting, WaitingReport()
        )

    def neighbours(self) -> NeighbourReport:
        """Who slows whom down, by all the others."""
        return self._beside(
            "neighbours",
            lambda report: self._parts.look_at_neighbours(
                report, self.rdt(), self.waiting()
            ),
            NeighbourReport(),
        )

    def _beside(self, what: str, look: Callable[[Report], T], nothing: T) -> T:
        """What is read of the report's instances, if these are known.

        To those who look, an empty report would be a host without any: they
        would forget all of them, and remove their resctrl groups.
        """
        report = self.report()
        if report is EMPTY:
            return nothing
        return self._once(what, lambda: look(report), nothing)

    def _once(self, what: str, look: Callable[[], T], nothing: T) -> T:
        with self._lock:
            if what not in self._found:
                self._found[what] = _tried(what, look, nothing)
            found: T = self._found[what]
            return found


def _tried(what: str, look: Callable[[], T], nothing: T) -> T:
    """The result of ``look``, or ``nothing`` and a log line if it fails."""
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


def current(cache: dict[str, Any], parts: Parts | Misconfigured) -> Cycle:
    """The cycle that ``cache`` belongs to.

    Ceilometer makes a new cache for each cycle and hands it to all pollsters
    of the cycle, possibly in several threads and without a
    lock; ``dict.setdefault`` makes one of them win.
    """
    cycle: Cycle = cache.setdefault(_KEY, Cycle(parts))
    return cycle
