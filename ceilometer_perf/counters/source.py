# SPDX-License-Identifier: Apache-2.0
"""What a source of counters says of an instance, after its gate."""

from dataclasses import dataclass

from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.host.processes import Process
from ceilometer_perf.reading import Counters, Moment


@dataclass(frozen=True, slots=True)
class Answer:
    """A source's reading of one instance, and the gate's judgement of it."""

    #: As samples say it, in ``resource_metadata["perf"]["source"]``.
    source: str
    moment: Moment
    #: The instance's, None if it can't be seen.
    process: Process | None
    counters: Counters
    #: Those of them that may be published.
    trusted: Counters
    judged: Judged
