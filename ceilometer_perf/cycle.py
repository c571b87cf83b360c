# SPDX-License-Identifier: Apache-2.0
"""One polling cycle: read once, whatever the number of meters or threads."""

import threading
from typing import Any

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.reading import (
    NOTHING,
    Reading,
    SourceUnavailableError,
)
from ceilometer_perf.sources import Source

LOG = log.getLogger(__name__)

_KEY = "ceilometer_perf.cycle"
_changes = Changes(LOG)


class Cycle:
    """What is known in one cycle. Its first reader pays, the others wait."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._reading: Reading | None = None

    def reading(self) -> Reading:
        """The cycle's reading; an empty one when there was none to get.

        A failure is remembered like a success: it is not tried again, and
        said once, until it changes.
        """
        with self._lock:
            if self._reading is None:
                self._reading = self._read()
            return self._reading

    def _read(self) -> Reading:
        try:
            reading = self._source.read()
        except SourceUnavailableError as exc:
            why = str(exc)
        except Exception:
            # A bug of ours; the agent would log it for each meter.
            LOG.exception("Reading the perf counters failed")
            return NOTHING
        else:
            _changes.fine("source", "perf counters are read again")
            return reading
        # Not above: within `except`, oslo.log appends the exception.
        _changes.trouble("source", why)
        return NOTHING


def current(cache: dict[str, Any], source: Source) -> Cycle:
    """The cycle that ``cache`` belongs to.

    Ceilometer makes a new cache for each cycle and hands it to all pollsters
    of the cycle, in several threads perhaps, without a lock;
    ``dict.setdefault`` makes one of them win.
    """
    cycle: Cycle = cache.setdefault(_KEY, Cycle(source))
    return cycle
