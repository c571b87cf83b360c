# SPDX-License-Identifier: Apache-2.0
"""The perf events of one process, counted from now on."""

import errno
import operator
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from ceilometer_perf.events import TYPES, Event
from ceilometer_perf.host.perf_event import open_event
from ceilometer_perf.host.perf_groups import (
    INHERITED,
    Group,
    Layout,
    layouts,
)

#: A thread may start while the others are being opened.
_TRIES = 20

#: What one event may be refused for, while others count.
LACKING = frozenset(
    {errno.ENOENT, errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EBUSY}
)
#: In the place of an error number: the caller left it out.
NOT_WANTED = errno.ENODATA

#: The kernel's answer to more events in a group than there are counters. It
#: answers EINVAL, too, if a thread of the process started after the leader was
#: opened: so it is asked again before it is believed.
_TOO_MANY = frozenset({errno.EINVAL, errno.ENOSPC})
_ANSWERS = 3


class Counted:
    """Open until :meth:`close`."""

    def __init__(
        self,
        threads: Callable[[], set[int]],
        events: Sequence[Event],
        layout: int = 0,
        *,
        hardware: bool = True,
    ) -> None:
        """``threads``: of the process; ``layout``: the first one to try.

        ``hardware``: whether to count hardware events too.

        :raises OSError: ESRCH when the process has ended, EAGAIN when it
            starts threads all the time, and those of perf_event_open(2).
        """
        lacking = {e: missing(e, hardware=hardware) for e in events}
        usable = [event for event, number in lacking.items() if not number]
        self._stack = ExitStack()
        self._groups: list[Group]
        #: Which of the layouts it got.
        self.layout = layout
        choices = layouts(usable)
        while not self._fits(
            threads,
            choices[self.layout],
            whole=self.layout == len(choices) - 1,
        ):
            self.layout += 1
        #: In ns of CLOCK_BOOTTIME.
        self.opened = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        #: Whether one was not always on a counter, as far as has been read.
        self.shared = False
        self._missing = [0, *(-number for number in lacking.values())]
        # Where `read` finds its numbers.
        places = [*self._places(events)]
        counts = [count for count, _ in places]
        enabled = len(self._missing) if self._groups else 0
        self._counts = operator.itemgetter(enabled, *counts)
        self._missed = operator.itemgetter(
            enabled, *counts, *(missed for _, missed in places)
        )

    def read(self) -> tuple[int, ...]:
        """The ns enabled, the count of each event, and the ns that it missed.

        The last are left out where no event has missed any. A count is a
        negative error number where it can't be counted.

        :raises ChildProcessError: see :meth:`.Group.read`.
        """
        numbers = self._missing.copy()
        for group in self._groups:
            numbers += group.read()
        self.shared = any(group.shared for group in self._groups)
        pick = self._missed if self.shared else self._counts
        picked: tuple[int, ...] = pick(numbers)
        return picked

    def _places(self, events: Sequence[Event]) -> Iterator[tuple[int, int]]:
        """Of each event's count, and of what it missed."""
        begin = len(self._missing)
        places = {}
        for group in self._groups:
            for number, event in enumerate(group.events, start=begin + 2):
                places[event] = (number, begin + 1)
            begin += 2 + len(group.events)
        for number, event in enumerate(events, start=1):
            yield places.get(event, (number, 0))

    def close(self) -> None:
        """Stop counting."""
        self._stack.close()

    def _fits(
        self, threads: Callable[[], set[int]], layout: Layout, *, whole: bool
    ) -> bool:
        """Whether the events could be opened in this layout.

        ``whole``: there is no other, so what is wrong is not their number.
        """
        try:
            self._open(threads, layout)
        except OSError as exc:
            self.close()
            if whole or exc.errno not in _TOO_MANY:
                raise
            return False
        return True

    def _open(self, threads: Callable[[], set[int]], layout: Layout) -> None:
        """Open all on all threads that there are.

        One that starts in the meantime has inherited from its creator, or has
        not: begin again. Those that start later have.
        """
        refused = 0
        for _ in range(_TRIES):
            found = threads()
            try:
                self._groups = [
                    Group(events, found, self._stack) for events in layout
                ]
                if threads() <= found:
                    return
            except OSError as exc:
                refused += 1
                if exc.errno not in _TOO_MANY or refused == _ANSWERS:
                    raise
            self.close()
        raise BlockingIOError(errno.EAGAIN, "threads start all the time")


def missing(event: Event, *, hardware: bool = True) -> int:
    """The error number if it can't be counted, on this thread either.

    :raises OSError: nothing can be.
    """
    if event.kind == "hardware" and not hardware:
        return NOT_WANTED
    try:
        os.close(open_event((TYPES[event.kind], event.config), INHERITED))
    except OSError as exc:
        if exc.errno not in LACKING:
            raise
        return exc.errno or errno.EIO
    return 0
