# SPDX-License-Identifier: Apache-2.0
"""The perf events of kernels before 4.14, as the bulk read has them."""

from collections.abc import Hashable

from ceilometer_perf.rdt.usage import LOCAL, OCCUPANCY, TOTAL, Usage
from ceilometer_perf.reading import Counters, Moment

KEYS = {"perf.cmt": OCCUPANCY, "perf.mbmt": TOTAL, "perf.mbml": LOCAL}

_ALL_BANKS = 0  # perf does not distinguish them


def usage(
    identity: Hashable, counters: Counters, moment: Moment
) -> Usage | None:
    """What an instance uses; None where none of the events is enabled."""
    banks = {
        feature: {_ALL_BANKS: counters[key]}
        for key, feature in KEYS.items()
        if key in counters
    }
    if not banks:
        return None
    # An agent held up by an absent broker gets here long after it has read the
    # perf counters.
    return Usage("perf", identity, banks, moment=moment, by_bank=False)
