# SPDX-License-Identifier: Apache-2.0
"""Where counters come from. Every source answers the same call."""

from typing import Protocol

from ceilometer_perf.reading import Reading, SourceUnavailableError


class Source(Protocol):
    """Something that counts for all instances of this host."""

    def read(self) -> Reading:
        """Read every counter of every instance, once.

        :raises SourceUnavailableError: there is no reading this time.
        """


class Unavailable:
    """A source that can't be: it answers with the reason, every time."""

    def __init__(self, why: str) -> None:
        self._why = why

    def read(self) -> Reading:
        """Raise the reason."""
        raise SourceUnavailableError(self._why)
