# SPDX-License-Identifier: Apache-2.0
"""Which source is whose: for each instance the first that it has."""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from lxml import etree

from ceilometer_perf import verdicts
from ceilometer_perf.reading import (
    Guest,
    Reading,
    SourceUnavailableError,
)
from ceilometer_perf.sources.rdt import monitors, perf
from ceilometer_perf.sources.rdt.usage import Origin, Usage
from ceilometer_perf.verdicts import Judgement

Answers = Mapping[str, Usage | Judgement]


class Candidate(Guest, Protocol):
    """An instance, and what its XML asks libvirt for."""

    @property
    def xml(self) -> str:
        """Of the running guest."""

    @property
    def handle(self) -> Any:
        """For libvirt calls on it."""


class ReadsGroups(Protocol):
    """See :class:`ceilometer_perf.sources.rdt.groups.Groups`."""

    def read(
        self, guests: Mapping[str, Guest], keep: Collection[str] = ()
    ) -> Answers:
        """Usage of these; the groups of others, but to keep, are removed."""


class Choice:
    """Reads each instance's usage from the one source that it has.

    Not safe for threads.
    """

    def __init__(
        self,
        ask_monitors: Callable[[list[Any]], Mapping[str, monitors.Stats]],
        groups: ReadsGroups,
        only: Origin | None = None,
    ) -> None:
        """``ask_monitors`` may take no longer than a deadline of its own.

        It waits where a guest is stuck, and must not share a connection with
        what does not. ``only``: the one source to read.
        """
        self._ask_monitors = ask_monitors
        self._groups = groups
        self._only = only

    def read(
        self, reading: Reading, candidates: Mapping[str, Candidate]
    ) -> Answers:
        """By UUID, of the instances that were read."""
        left = {u: candidates[u] for u in reading.instances if u in candidates}
        found: dict[str, Usage | Judgement] = {}
        readers: dict[Origin, Callable[[Mapping[str, Candidate]], Answers]] = {
            "perf": functools.partial(_by_perf, reading),
            "libvirt": self._by_monitors,
            # Also if nobody is left: then there is no group to keep.
            "resctrl": functools.partial(
                self._groups.read, keep=_missed(reading)
            ),
        }
        for origin, read in readers.items():
            if self._only in (None, origin):
                found.update(read(left))
                left = {u: c for u, c in left.items() if u not in found}
        return found

    def _by_monitors(self, candidates: Mapping[str, Candidate]) -> Answers:
        having = {u: c for u, c in candidates.items() if _has_monitors(c.xml)}
        if not having:
            return {}
        try:
            stats = self._ask_monitors([c.handle for c in having.values()])
        except SourceUnavailableError as exc:
            return dict.fromkeys(having, verdicts.stale(str(exc)))
        return {
            uuid: monitors.usage(candidate.id, stats.get(uuid, {}))
            or verdicts.MONITOR_UNREAD
            for uuid, candidate in having.items()
        }


def _missed(reading: Reading) -> set[str]:
    """Those that run, and that the bulk read left out this once."""
    return {
        uuid
        for uuid, guest in reading.guests.items()
        if guest.id >= 0
        and not guest.realtime
        and uuid not in reading.instances
    }


def _by_perf(
    reading: Reading, candidates: Mapping[str, Candidate]
) -> dict[str, Usage | Judgement]:
    found = {
        uuid: perf.usage(candidate.id, reading.instances[uuid])
        for uuid, candidate in candidates.items()
    }
    return {uuid: usage for uuid, usage in found.items() if usage is not None}


def _has_monitors(xml: str) -> bool:
    """Whether the XML has a monitor of libvirt's, of either kind."""
    if "<monitor" not in xml:  # parsing costs more than all else here
        return False
    tune = etree.fromstring(xml).find("cputune")
    return tune is not None and (
        tune.find("cachetune/monitor") is not None
        or tune.find("memorytune/monitor") is not None
    )
