# SPDX-License-Identifier: Apache-2.0
"""Where counters come from: the interface of a source."""

from typing import Protocol

from ceilometer_perf.reading import Reading


class Source(Protocol):
    """Something that counts for all instances of this host."""

    #: As samples say it, in ``resource_metadata["perf"]["source"]``.
    name: str

    def read(self) -> Reading:
        """Read every counter of every instance, once.

        :raises SourceUnavailableError: there is no reading in this cycle.
        """
