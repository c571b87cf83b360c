# SPDX-License-Identifier: Apache-2.0
"""libvirt's bulk statistics (``virConnectGetAllDomainStats``)."""

import contextlib
from collections.abc import Mapping
from typing import Any

import libvirt

from ceilometer_perf.host.connection import Session, is_broken
from ceilometer_perf.reading import Counters

_NOWAIT_SINCE = (4, 5, 0)


def perf_stats(
    session: Session, domains: list[libvirt.virDomain]
) -> Mapping[str, Counters]:
    """The perf counters of these running domains, by UUID, in one call.

    A domain has the keys of the events that are enabled for it, and no
    others. One that is gone by now is left out.
    """
    if not domains:  # libvirt would treat that as an error
        return {}
    return {
        domain.UUIDString(): {k: v for k, v in stats.items() if is_count(v)}
        for domain, stats in session.conn.domainListGetStats(
            domains, libvirt.VIR_DOMAIN_STATS_PERF, _nowait(session)
        )
    }


def is_count(value: object) -> bool:
    """Whether it is what libvirt counts in: whole, and no less than 0."""
    return type(value) is int and 0 <= value <= MOST


MOST = (1 << 64) - 1


def monitor_stats(
    session: Session, domains: list[libvirt.virDomain]
) -> Mapping[str, Mapping[str, Any]]:
    """What libvirt's cache and bandwidth monitors say of these domains.

    A domain of which libvirt can't read a monitor (a number that the kernel
    does not have just now, an L3 cache 08 that it takes for octal) fails the
    bulk call for all of them: each is asked for itself then, and those that
    can't be read are left out. Waits for a domain whose QEMU is stuck.
    """
    try:
        return _monitor_stats(session, domains)
    except libvirt.libvirtError as exc:
        if is_broken(session.conn, exc):
            raise
    found: dict[str, Mapping[str, Any]] = {}
    for domain in domains:
        with contextlib.suppress(libvirt.libvirtError):
            found.update(_monitor_stats(session, [domain]))
    return found


def _monitor_stats(
    session: Session, domains: list[libvirt.virDomain]
) -> Mapping[str, Mapping[str, Any]]:
    if not domains:  # libvirt would treat that as an error
        return {}
    groups = libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    groups |= libvirt.VIR_DOMAIN_STATS_MEMORY
    return {
        domain.UUIDString(): stats
        for domain, stats in session.conn.domainListGetStats(
            domains, groups, _nowait(session)
        )
    }


def states(session: Session) -> list[tuple[libvirt.virDomain, int]]:
    """All domains, running or not, and their states, in one call.

    One that migrates is on two hosts, with two counts of the same events.
    It is left out where it doesn't run: before it has come, and when it has
    gone.
    """
    return [
        (domain, stats.get("state.state", libvirt.VIR_DOMAIN_NOSTATE))
        for domain, stats in session.conn.getAllDomainStats(
            libvirt.VIR_DOMAIN_STATS_STATE, _nowait(session)
        )
        if not _is_elsewhere(stats)
    ]


def _is_elsewhere(stats: Mapping[str, Any]) -> bool:
    return (
        stats.get("state.state") == libvirt.VIR_DOMAIN_PAUSED
        and stats.get("state.reason") in _NOT_HERE
    )


_NOT_HERE = (
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,  # at first, one that comes is so
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY,
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED,
)


def _nowait(session: Session) -> int:
    """Don't wait for a domain that is busy, where libvirt knows how."""
    if session.version < _NOWAIT_SINCE:
        return 0
    return int(libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
