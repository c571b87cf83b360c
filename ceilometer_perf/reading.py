# SPDX-License-Identifier: Apache-2.0
"""What travels between the rooms: frozen, and free of any library's types."""

from collections.abc import Mapping
from dataclasses import dataclass

Counters = Mapping[str, int]
"""One instance's counters by key (``perf.cpu_cycles``), in the unit of the
meter that reads the key. A missing key is a counter that the instance does
not have."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters of all instances of this host, read at one moment.

    ``taken_at`` is in seconds of the monotonic clock; ``instances`` is keyed
    by instance UUID.
    """

    taken_at: float
    instances: Mapping[str, Counters]


NOTHING = Reading(taken_at=0.0, instances={})
"""What a cycle goes on with when its source was unavailable."""


class SourceUnavailableError(Exception):
    """A source gave no reading.

    The message is one line: which source, what it said, what to look at.
    """
