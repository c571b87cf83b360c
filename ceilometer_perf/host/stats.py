# SPDX-License-Identifier: Apache-2.0
"""libvirt's bulk statistics (``virConnectGetAllDomainStats``)."""

from collections.abc import Mapping
from typing import Any

import libvirt

from ceilometer_perf.host.connection import Session, is_broken
from ceilometer_perf.reading import Counters

_NOWAIT_SINCE = (4, 5, 0)


Stats = Mapping[str, Mapping[str, Any]]
"""By instance UUID, then by libvirt's key."""

Failures = Mapping[str, str]
"""What libvirt said of domains that it could not read, by UUID."""


def perf_stats(
    session: Session, domains: list[libvirt.virDomain]
) -> tuple[Mapping[str, Counters], Failures]:
    """The perf counters of these running domains, by UUID, in one call.

    A domain has the keys of the events that are enabled for it, and no
    others. One that is gone by now is left out.
    """
    groups = libvirt.VIR_DOMAIN_STATS_PERF
    found, failed = _of_each(session, domains, groups)
    return {
        uuid: {k: v for k, v in stats.items() if is_count(v)}
        for uuid, stats in found.items()
    }, failed


def is_count(value: object) -> bool:
    """Whether it is what libvirt counts in: whole, and no less than 0."""
    return type(value) is int and 0 <= value <= MOST


MOST = (1 << 64) - 1


def is_amount(value: object) -> bool:
    """Whether it is a count, or a number of that size with decimals."""
    return is_count(value) or (isinstance(value, float) and 0 <= value <= MOST)


def monitor_stats(session: Session, domains: list[libvirt.virDomain]) -> Stats:
    """What libvirt's resctrl monitors say of these domains.

    Those of which libvirt can't read one are left out (a number that the
    kernel does not have just now, an L3 cache 08 that it takes for octal).
    Waits for a domain whose QEMU is stuck.
    """
    groups = libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    groups |= libvirt.VIR_DOMAIN_STATS_MEMORY
    found, _ = _of_each(session, domains, groups)
    return found


def _of_each(
    session: Session, domains: list[libvirt.virDomain], groups: int
) -> tuple[Stats, Failures]:
    """In one call, which fails for all if it does for one of them.

    Each is asked for itself then.
    """
    try:
        return _of_all(session, domains, groups), {}
    except libvirt.libvirtError as exc:
        if is_broken(session.conn, exc):
            raise
    found: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, str] = {}
    for domain in domains:
        try:
            found.update(_of_all(session, [domain], groups))
        except libvirt.libvirtError as exc:
            if is_broken(session.conn, exc):
                raise
            if exc.get_error_code() not in _GONE:
                failed[domain.UUIDString()] = str(exc)
    return found, failed


#: It does not run any more, and may be defined still.
_GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


def _of_all(
    session: Session, domains: list[libvirt.virDomain], groups: int
) -> Stats:
    if not domains:  # libvirt would treat that as an error
        return {}
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
    state = stats.get("state.state")
    # Its QEMU ends. Where that is because it has gone, it runs there by now.
    return state == libvirt.VIR_DOMAIN_SHUTDOWN or (
        state == libvirt.VIR_DOMAIN_PAUSED
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
