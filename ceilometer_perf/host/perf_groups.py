# SPDX-License-Identifier: Apache-2.0
"""Groups of perf events on every thread of a process, and their sums.

A group counts as one: the kernel puts all of its events on counters, or none.
New threads inherit it from the thread that starts them (perf_event_open(2)).
"""

import os
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from itertools import repeat

from ceilometer_perf.events import EVENTS, TYPES, Event
from ceilometer_perf.host.perf_event import (
    GROUP_TIMES,
    INHERIT,
    INHERIT_THREAD,
    open_event,
)

INHERITED = INHERIT | INHERIT_THREAD
"""By threads that start later, and not by processes."""

Layout = tuple[tuple[Event, ...], ...]
"""The groups that events are counted in."""

#: Those whose ratio matters count at the same time or not at all.
_PAIRS = (
    ("cpu_cycles", "instructions"),
    ("cache_references", "cache_misses"),
    ("branch_instructions", "branch_misses"),
)

# Of a group's reading, before the counts: how many, time enabled, running.
_ENABLED, _RUNNING, _COUNTS = 1, 2, 3

#: The least part of a process's CPU time that says something of the rest.
_ENOUGH = 0.2


def layouts(events: Sequence[Event]) -> tuple[Layout, ...]:
    """From one group for all to as many as need the fewest counters each.

    The more groups there are, the more does reading cost. Software events
    need no counter, and are exact in a group without hardware events.
    """
    hardware = [each for each in events if each.kind == "hardware"]
    software = tuple(each for each in events if each.kind == "software")
    pairs = [
        tuple(EVENTS[name] for name in pair if EVENTS[name] in hardware)
        for pair in _PAIRS
    ]
    paired = {event for pair in pairs for event in pair}
    alone = [(event,) for event in hardware if event not in paired]
    choices: tuple[Iterable[tuple[Event, ...]], ...] = (
        [(*hardware, *software)],
        [software, *pairs, *alone],
        [software, *((event,) for event in hardware)],
    )
    return tuple(tuple(filter(None, choice)) for choice in choices)


class Group:
    """One group on every thread; closes with ``stack``."""

    def __init__(
        self, events: Sequence[Event], threads: Iterable[int], stack: ExitStack
    ) -> None:
        """Open it.

        :raises OSError: of perf_event_open(2), but for threads that have
            ended.
        """
        self.events = events
        self._leaders: list[int] = []
        for thread in threads:
            with suppress(ProcessLookupError):
                self._leaders.append(_open(events, thread, stack))
        self._row = struct.Struct(f"={_COUNTS + len(events)}Q")
        # What each thread had counted when it was scaled last, or was read
        # last where it never shared counters; and what scaling has added.
        self._before = [bytes(self._row.size)] * len(self._leaders)
        self._added = [0.0] * len(events)
        #: Whether it was not always on counters, as far as it has been read.
        self.shared = False

    def read(self) -> list[int]:
        """The ns enabled, those of them missed, and the count of each event.

        Of all threads since the opening. What was not on a counter all of the
        time has missed some; its counts are scaled then, and never fall.

        :raises ChildProcessError: a thread started while the group was being
            opened, and the kernel can't add it up.
        """
        size = self._row.size
        rows = [*map(os.read, self._leaders, repeat(size))]
        if sum(map(len, rows)) != size * len(rows):
            raise ChildProcessError(f"{self.events}: not a whole group")
        # Whole rows are added at once, as one long number each: the quickest
        # way. No sum is so large that it would carry into the next column.
        total = sum(map(int.from_bytes, rows, repeat(sys.byteorder)))
        _, enabled, running, *counts = self._row.unpack(
            total.to_bytes(size, sys.byteorder)
        )
        self.shared = running < enabled
        if self.shared:
            self._scale(rows)
            counts = [*map(int.__add__, counts, map(round, self._added))]
        else:
            self._before = rows
        return [enabled, enabled - running, *counts]

    def _scale(self, rows: list[bytes]) -> None:
        """Add what was missed since each thread's last reading.

        Growth is scaled and not the totals, which would fall whenever an
        event is on a counter for a larger share than before. A thread that
        was on no counter at all (a guest that uses a virtual PMU may hold
        those of one vCPU) is taken to be as the others, if they are enough.
        """
        grown = [*map(self._growth, rows, self._before)]
        seen = [each for each in grown if each[_RUNNING]]
        of_all, of_seen = (
            sum(each[_ENABLED] for each in some) for some in (grown, seen)
        )
        enough = bool(seen) and of_seen >= _ENOUGH * of_all
        for each in seen:
            share = each[_RUNNING] / each[_ENABLED]
            if enough:
                share *= of_seen / of_all
            for number, count in enumerate(each[_COUNTS:]):
                self._added[number] += count / share - count
        self._before = [
            # Otherwise what it counts next stands for this time too.
            row if enough or each[_RUNNING] else before
            for row, each, before in zip(
                rows, grown, self._before, strict=True
            )
        ]

    def _growth(self, now: bytes, before: bytes) -> list[int]:
        return [*map(int.__sub__, *map(self._row.unpack, (now, before)))]


def _open(events: Sequence[Event], thread: int, stack: ExitStack) -> int:
    """The leader of a group on one thread."""
    leader = -1
    for event in events:
        handle = open_event(
            (TYPES[event.kind], event.config),
            INHERITED,
            thread=thread,
            leader=leader,
            read_format=GROUP_TIMES,
        )
        stack.callback(os.close, handle)
        leader = handle if leader < 0 else leader
    return leader
