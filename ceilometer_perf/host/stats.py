# SPDX-License-Identifier: Apache-2.0
"""libvirt's bulk statistics (``virConnectGetAllDomainStats``)."""

from collections.abc import Mapping

import libvirt

from ceilometer_perf.host.connection import Session
from ceilometer_perf.reading import Counters

_NOWAIT_SINCE = (4, 5, 0)


def perf_stats(session: Session) -> Mapping[str, Counters]:
    """The perf counters of all running domains, by UUID, in one call.

    A domain has the keys of the events that are enabled for it, and no
    others.
    """
    flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
    if session.version >= _NOWAIT_SINCE:
        flags |= libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    return {
        domain.UUIDString(): stats
        for domain, stats in session.conn.getAllDomainStats(
            libvirt.VIR_DOMAIN_STATS_PERF, flags
        )
    }
