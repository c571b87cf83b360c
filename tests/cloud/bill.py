# SPDX-License-Identifier: Apache-2.0
"""What a customer would be billed for, from what Gnocchi has."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from tests.cloud.metric import SPAN, Metric
from tests.cloud.witness import TASK_CLOCK, Seen

PATIENCE = 60.0  # seconds, until metricd has come to the last sample


def billed(gnocchi: Metric, instance: str, least: float) -> float:
    """Seconds of CPU time, as soon as they are at least so many.

    As etc/cloudkitty/metrics.yml has it: growth, and none where a counter
    restarts.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        resource = gnocchi.instance(instance) or {"metrics": {}}
        metric = resource["metrics"].get(TASK_CLOCK)
        measures = gnocchi.measures(metric, "rate:sum", SPAN) if metric else []
        bill = sum(max(0.0, growth) for _, growth in measures) / 1e9
        if bill >= least or time.monotonic() > deadline:
            return bill
        time.sleep(0.5)


def grown(seen: Sequence[Seen]) -> float:
    """What the samples of an instance say that is billed at least, in seconds.

    Without the spans that nobody is billed: those in which its counter
    restarts, and those after one without a sample. And without the largest
    growth between two samples: on a busy machine one may come so late, or
    again, that Gnocchi has no value before it any more.
    """
    there = {_span(each) for each in seen}
    restarts = {
        _span(after)
        for before, after in pairwise(seen)
        if before.since != after.since
    }
    billable = {s for s in there - restarts if s - 1 in there}
    growths = [
        (after.volume - before.volume) / 1e9
        for before, after in pairwise(seen)
        if _span(after) in billable
    ]
    return sum(growths) - max(growths, default=0.0)


def _span(seen: Seen) -> int:
    """The number of the span that a sample is in."""
    at = datetime.fromisoformat(seen.timestamp).replace(tzinfo=UTC)
    return int(at.timestamp()) // SPAN
