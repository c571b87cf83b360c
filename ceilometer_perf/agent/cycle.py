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
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._rdt: RdtReport | None = None
        self._waiting: WaitingReport | None = None
        self._neighbours: NeighbourReport | None = None

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
        """The report of this cycle; an empty one if reading failed.

        A failure counts as the cycle's answer: it is not tried again before
        the next cycle, and logged only when it differs from the last one.
        """
        with self._lock:
            return self._look()

    def rdt(self) -> RdtReport:
        """L3 occupancy and memory bandwidth; not read unless this is called.

        Failures are handled as in :meth:`report`.
        """
        with self._lock:
            return self._look_at_rdt()

    def waiting(self) -> WaitingReport:
        """What instances waited for; as :meth:`rdt`."""
        with self._lock:
            return self._look_at_waiting()

    def neighbours(self) -> NeighbourReport:
        """Who slows whom down; reads all the others."""
        with self._lock:
            if self._neighbours is None:
                reports = (
                    self._look(),
                    self._look_at_rdt(),
                    self._look_at_waiting(),
                )
                self._neighbours = _tried(
                    "neighbours",
                    lambda: self._parts.look_at_neighbours(*reports),
                    NeighbourReport(),
                )
            return self._neighbours

    def _look_at_rdt(self) -> RdtReport:
        if self._rdt is None:
            report = self._look()
            self._rdt = _tried(
                "L3 occupancy and memory bandwidth",
                lambda: self._parts.look_at_rdt(report),
                RdtReport(),
            )
        return self._rdt

    def _look_at_waiting(self) -> WaitingReport:
        if self._waiting is None:
            report = self._look()
            self._waiting = _tried(
                "waiting times",
                lambda: self._parts.look_at_waiting(report),
                WaitingReport(),
            )
        return self._waiting

    def _look(self) -> Report:
        if self._report is None:
            self._report = _tried("perf counters", self._parts.look, EMPTY)
        return self._report


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
