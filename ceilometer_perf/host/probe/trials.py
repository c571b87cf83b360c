# SPDX-License-Identifier: Apache-2.0
"""Whether libvirt can count an event on this host, and if not, why."""

import errno
from dataclasses import dataclass

from ceilometer_perf.events import TYPES, Event, Version
from ceilometer_perf.guest import enabled_events
from ceilometer_perf.guest.host_facts import HostFacts
from ceilometer_perf.host.perf_event import Kernel
from ceilometer_perf.host.probe.machine import Machine

FORBIDDEN = (errno.EACCES, errno.EPERM)
UNSUPPORTED = (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class Asker:
    """How events are tried: kernel, machine, and whether as root.

    libvirtd opens them as root.
    """

    perf: Kernel
    machine: Machine
    is_root: bool
    libvirt: Version | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of trying one event."""

    event: Event
    #: None if this user can't tell.
    works: bool | None
    reason: str | None = None


def judge(event: Event, asker: Asker) -> Trial:
    """Try an event the way libvirt opens it."""
    known = enabled_events.objection(
        event.name,
        HostFacts(asker.libvirt, asker.machine.cqm_type is not None),
    )
    if known is not None:
        return Trial(event, works=False, reason=known)
    error = _error(event, asker)
    if error is None:
        return Trial(event, works=True)
    return _trial(event, asker, error)


def _error(event: Event, asker: Asker) -> OSError | None:
    """Why the kernel refuses the event; None if it doesn't."""
    kind = TYPES.get(event.kind, asker.machine.cqm_type)
    if kind is None:
        return OSError(errno.ENOENT, "no such PMU")
    pair = (kind, event.config)
    try:
        asker.perf.try_open(pair)
    except OSError as error:
        if error.errno not in FORBIDDEN or asker.is_root:
            return error
        # Root may count what the kernel does. Where this user may only count
        # the rest, whether the event exists shows in that.
        try:
            asker.perf.try_open(pair, user_only=True)
        except OSError as again:
            return again
    return None


def _trial(event: Event, asker: Asker, error: OSError) -> Trial:
    if error.errno in FORBIDDEN:
        return _forbidden(event, asker)
    if error.errno == errno.ENOSYS:
        reason = (
            "the kernel has no perf_event_open, or a seccomp filter hides it"
        )
        return Trial(event, works=False, reason=reason)
    if error.errno in UNSUPPORTED:
        reason = _unsupported(event, asker.machine)
        return Trial(event, works=False, reason=reason)
    return Trial(event, works=None, reason=error.strerror)


def _unsupported(event: Event, machine: Machine) -> str:
    if event.kind == "software":
        return "this kernel has no such event"
    if event.kind == "hardware" and not machine.pmus:
        return "the kernel has no PMU; a VM needs a virtual one"
    return "the CPU's PMU has no such event"


def _forbidden(event: Event, asker: Asker) -> Trial:
    level = f"perf_event_paranoid is {asker.machine.paranoid}"
    if asker.is_root:
        reason = (
            f"refused even to root ({level}): look for a container without "
            "CAP_PERFMON, a seccomp filter or a security module, and ask "
            "where libvirt's daemon runs"
        )
        return Trial(event, works=False, reason=reason)
    reason = (
        f"can't tell ({level} for this user): run as root, like libvirt's "
        "daemon"
    )
    return Trial(event, works=None, reason=reason)
