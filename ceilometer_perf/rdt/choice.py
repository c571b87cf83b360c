# SPDX-License-Identifier: Apache-2.0
"""Chooses a source for each instance: the first one that it has."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.guest import errors
from ceilometer_perf.host.monitors import Monitors
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.meters import RDT_EVENTS
from ceilometer_perf.rdt import intel_cqm, libvirt_monitors, tune
from ceilometer_perf.rdt.groups import Groups
from ceilometer_perf.rdt.usage import Origin, Usage
from ceilometer_perf.reading import (
    Guest,
    Moment,
    Reading,
    SourceUnavailableError,
    utc_now,
)

Answers = Mapping[str, Usage | Judgement]
"""By instance UUID: what it uses, or why that isn't known."""

Reader = Callable[[Mapping[str, Guest]], Answers]

Judgements = Mapping[str, Judged]
"""The gate's, by instance UUID."""

_Identity = tuple[int, int] | None
"""Of an instance's process, None where it can't be seen."""


class Choice:
    """Reads each instance's usage from the one source that it has.

    Not safe for threads.
    """

    def __init__(
        self,
        libvirt: Monitors,
        groups: Groups,
        processes: Processes,
        only: Origin | None = None,
    ) -> None:
        """``only``: the one source to read."""
        self._libvirt = libvirt
        self._groups = groups
        self._processes = processes
        self._only = only

    def read(self, reading: Reading, judged: Judgements) -> Answers:
        """Of the instances that were judged; ``NOT_ENABLED`` without any."""
        left = {uuid: reading.guests[uuid] for uuid in judged}
        found: dict[str, Usage | Judgement] = {}
        if self._only in (None, "perf"):
            found.update(_by_perf(reading, judged, left))
        left = {u: guest for u, guest in left.items() if u not in found}
        # A resctrl group stays when its instance reboots, libvirt's ids come
        # again when its daemon restarts, and a reading may be old by now. To
        # what perf has counted, the gate has held its process.
        before = self._identities(left)
        for origin, read in self._by_resctrl(_missed(reading, judged)).items():
            if self._only in (None, origin):
                answers = read(left)
                after = self._identities({u: left[u] for u in answers})
                found.update(
                    (u, _of_process(each, before[u], after[u]))
                    for u, each in answers.items()
                )
                left = {u: g for u, g in left.items() if u not in found}
        return found | dict.fromkeys(left, verdicts.NO_RDT_SOURCE)

    def _identities(
        self, guests: Mapping[str, Guest]
    ) -> Mapping[str, _Identity]:
        """Of their processes."""
        found = {
            uuid: self._processes.guest(guest.name, uuid)
            for uuid, guest in guests.items()
        }
        return {
            uuid: None if process is None else process.identity
            for uuid, process in found.items()
        }

    def _by_resctrl(self, missed: set[str]) -> Mapping[Origin, Reader]:
        """Those who read what the kernel's resctrl counts."""
        wrong = self._groups.why_wrong()
        if wrong is not None or self._only in ("perf", "libvirt"):
            # Those of an earlier agent, which may have had another source.
            self._groups.read({})
        if wrong is None:
            # Even if there are none: then no group is kept.
            groups = functools.partial(self._groups.read, keep=missed)
            return {"libvirt": self._by_monitors, "resctrl": groups}
        return dict.fromkeys(
            ("libvirt", "resctrl"), lambda guests: dict.fromkeys(guests, wrong)
        )

    def _by_monitors(self, guests: Mapping[str, Guest]) -> Answers:
        having = {u: g for u, g in guests.items() if tune.has_monitors(g.xml)}
        if not having:
            return {}
        try:
            stats = self._libvirt.read(having)
        except SourceUnavailableError as exc:
            return dict.fromkeys(having, verdicts.stale(str(exc)))
        # The helper may take long before the groups of others are read.
        moment = Moment(time.monotonic(), utc_now())
        return {
            uuid: _read_at(moment, _monitored(guest, stats.get(uuid, {})))
            for uuid, guest in having.items()
        }


def _of_process(
    answer: Usage | Judgement, before: _Identity, after: _Identity
) -> Usage | Judgement:
    """The counters of another process are others, whatever counts them."""
    if isinstance(answer, Judgement):
        return answer
    if before != after:
        return verdicts.MEANWHILE
    return dataclasses.replace(answer, identity=(after, answer.identity))


def _read_at(moment: Moment, answer: Usage | Judgement) -> Usage | Judgement:
    if isinstance(answer, Judgement):
        return answer
    return dataclasses.replace(answer, moment=moment)


def _monitored(
    guest: Guest, stats: libvirt_monitors.Stats
) -> Usage | Judgement:
    try:
        expected = tune.monitored(guest.xml)
        usage = libvirt_monitors.usage(guest.id, stats, expected)
        whole = libvirt_monitors.covers(expected, tune.vcpus(guest.xml))
    except (ValueError, TypeError, KeyError, errors.GuestError):
        return verdicts.MONITOR_UNREAD
    if usage is None:
        return verdicts.MONITOR_UNREAD
    return usage if whole else verdicts.PARTLY_MONITORED


def _missed(reading: Reading, judged: Judgements) -> set[str]:
    """Running instances that this cycle's reading lacks."""
    return {
        uuid
        for uuid, guest in reading.guests.items()
        if guest.id >= 0 and not guest.realtime and uuid not in judged
    }


def _by_perf(
    reading: Reading, judged: Judgements, guests: Mapping[str, Guest]
) -> Answers:
    found: dict[str, Usage | Judgement] = {}
    for uuid, guest in guests.items():
        gated = judged[uuid]
        usage = intel_cqm.usage(
            (guest.id, gated.since), reading.instances[uuid], reading.moment
        )
        if usage is not None:
            wrong = (
                judgement
                for key, judgement in gated.judgements.items()
                if key in RDT_EVENTS and judgement is not verdicts.OK
            )
            found[uuid] = next(wrong, usage)
    return found
