# SPDX-License-Identifier: Apache-2.0
"""Count perf events of instances ourselves: the part that needs CAP_PERFMON.

Unlike libvirt's, these counters are opened on every thread that there is, and
so may be opened at any time. They stay open here and end with this process.
The caller is not trusted: see :mod:`.qemus`.
"""

import contextlib
import errno
import functools
import itertools
import resource
import threading
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ceilometer_perf.events import EVENTS, TYPES, Event
from ceilometer_perf.host import processes
from ceilometer_perf.host.counted import Counted
from ceilometer_perf.host.perf_groups import Total
from ceilometer_perf.host.qemus import Qemus, checked


class Wanted(NamedTuple):
    """An instance to count, as the caller knows it."""

    #: Its domain's.
    name: str
    uuid: str
    #: Of its process; the latter in clock ticks.
    pid: int
    started: int
    #: Hardware events too, or only software events.
    hardware: bool
    #: Another number has the counters opened again.
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted of one instance, or why nothing was.

    ``opened`` is when counting began, in ns of CLOCK_BOOTTIME. ``totals`` are
    by the names of events, ``lacking`` the error numbers of those that can't
    be counted; ``error`` is the one of the whole instance, or 0.
    """

    error: int
    opened: int
    totals: Mapping[str, Total]
    lacking: Mapping[str, int]


#: In the place of an error number: an event that the caller left out.
NOT_WANTED = errno.ENODATA

_TRIES = 3
_HEAD, _EACH = 2, 3  # numbers: error and opened; count, enabled, running


class Counting:
    """The counters of all instances. Safe to call from several threads."""

    def __init__(self, run: Path, proc: Path = Path("/proc")) -> None:
        """``run``: where libvirt's PID files are."""
        self._qemus = Qemus(run, proc)
        self._proc = proc
        self._open: dict[Wanted, Counted] = {}
        self._layout = 0
        self._lock = threading.Lock()
        _raise_file_limit()

    def read(self, wanted: Sequence[Wanted], events: Sequence[str]) -> bytes:
        """Count these instances from now on, and no others.

        The answer is for :func:`decoded`.

        :raises ValueError: there is no such event.
        """
        asked = [_event(name) for name in events]
        with self._lock:
            for gone in self._open.keys() - set(wanted):
                self._close(gone)
            rows = (self._row(each, asked) for each in wanted)
            return array("q", itertools.chain.from_iterable(rows)).tobytes()

    def _row(self, wanted: Wanted, events: Sequence[Event]) -> Iterator[int]:
        try:
            counted, totals = self._count(wanted, events)
        except (OSError, ValueError) as exc:
            number = exc.errno if isinstance(exc, OSError) else errno.EINVAL
            yield from (number or errno.EIO, 0)
            yield from [0] * _EACH * len(events)
            return
        yield from (0, counted.opened)
        for event in events:
            if event in totals:
                total = totals[event]
                yield from (total.count, total.enabled, total.running)
            else:
                yield from (-counted.lacking.get(event, NOT_WANTED), 0, 0)

    def _count(
        self, wanted: Wanted, events: Sequence[Event]
    ) -> tuple[Counted, Mapping[Event, Total]]:
        """The counters, opened if they are not or can't be read any more."""
        for _ in range(_TRIES):
            counted = self._open.get(wanted) or self._opened(wanted, events)
            with contextlib.suppress(ChildProcessError):
                totals = counted.read()
                if not self._take_turns(counted, totals):
                    return counted, totals
            self._close(wanted)
        raise BlockingIOError(errno.EAGAIN, "threads start all the time")

    def _take_turns(
        self, counted: Counted, totals: Mapping[Event, Total]
    ) -> bool:
        """Whether all are in one group, and it does not always count.

        Then smaller ones count more, here and for whoever comes next.
        """
        if counted.layout > 0:
            return False
        turns = any(each.running < each.enabled for each in totals.values())
        self._layout = max(self._layout, int(turns))
        return turns

    def _opened(self, wanted: Wanted, events: Sequence[Event]) -> Counted:
        pid = self._qemus.pid(wanted.name, checked(wanted.uuid))
        process = processes.read(self._proc, pid)
        if process is None or process.identity != (pid, wanted.started):
            raise ProcessLookupError(errno.ESRCH, "it is another process")
        counted = Counted(
            functools.partial(self._qemus.threads, pid),
            [e for e in events if wanted.hardware or e.kind == "software"],
            self._layout,
        )
        self._open[wanted] = counted
        return counted

    def _close(self, wanted: Wanted) -> None:
        self._open.pop(wanted).close()


def decoded(answer: bytes, events: Sequence[str]) -> Iterator[Count]:
    """One for each instance that :meth:`Counting.read` was asked for."""
    numbers = array("q", answer)
    width = _HEAD + _EACH * len(events)
    for row in range(0, len(numbers), width):
        error, opened = numbers[row : row + _HEAD]
        if error:
            yield Count(error, 0, {}, {})
            continue
        totals, lacking = {}, {}
        for event, at in zip(
            events, range(row + _HEAD, row + width, _EACH), strict=True
        ):
            count, enabled, running = numbers[at : at + _EACH]
            if count < 0:
                lacking[event] = -count
            else:
                totals[event] = Total(count, enabled, running)
        yield Count(0, opened, totals, lacking)


def _event(name: str) -> Event:
    event = EVENTS.get(name)
    if event is None or event.kind not in TYPES:
        raise ValueError(f"not an event: {name!r}")
    return event


def _raise_file_limit() -> None:
    """As far as it may be: each event is open on each thread."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
