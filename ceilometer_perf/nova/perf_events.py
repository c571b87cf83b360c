# SPDX-License-Identifier: Apache-2.0
"""``[libvirt] enabled_perf_events`` without those that stop every guest."""

from collections.abc import Iterable

from oslo_log import log

from ceilometer_perf.events import Version
from ceilometer_perf.guest import HostFacts, enabled_events
from ceilometer_perf.host import probe

LOG = log.getLogger(__name__)


def safe(names: Iterable[str], libvirt: Version) -> list[str]:
    """Each once, as libvirt spells it; what is left out is warned of."""
    # The probe knows better whether there is the PMU of cmt.
    events, notes = enabled_events.choose(names, HostFacts(libvirt, True))
    bad = {t.event.name: t.reason for t in probe.cannot_work(events)}
    notes += tuple(
        f"perf event {name} is left out, as no guest starts with it: {reason}"
        for name, reason in bad.items()
    )
    for note in notes:
        LOG.warning("[libvirt] enabled_perf_events: %s", note)
    return [event for event in events if event not in bad]
