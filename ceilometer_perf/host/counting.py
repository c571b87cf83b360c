# SPDX-License-Identifier: Apache-2.0
"""Count perf events of instances ourselves: the part that needs CAP_PERFMON.

Unlike libvirt's, these counters are opened on every thread that there is, and
so may be opened at any time. They stay open here and end with this process.
The caller is not trusted: see :mod:`.qemus`.
"""

import errno
import functools
import resource
import threading
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ceilometer_perf.events import EVENTS, TYPES, Event
from ceilometer_perf.host import processes
from ceilometer_perf.host.counted import Counted, missing
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


class Count(NamedTuple):
    """What was counted of one instance, or why nothing was.

    ``error`` is an error number, or 0. ``opened`` is when counting began, in
    ns of CLOCK_BOOTTIME, and ``enabled`` the ns since then that the threads
    were on a CPU. ``counts`` has a number for each event, a negative error
    number where it can't be counted; ``missed`` the ns of ``enabled`` in which
    it was not on a counter. That is empty where none has missed any.
    """

    error: int
    opened: int
    enabled: int
    counts: list[int]
    missed: list[int]


_TRIES = 3
# The numbers before the others: error, opened, and how many others there are.
_HEAD = 3
_MOST = (1 << 63) - 1


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

        :raises ValueError: a name is not an event's.
        """
        asked = [_event(name) for name in events]
        with self._lock:
            for gone in self._open.keys() - set(wanted):
                self._close(gone)
            numbers: list[int] = []
            for each in wanted:
                numbers += self._row(each, asked)
            return _packed(numbers)

    def try_events(self, events: Sequence[str]) -> list[int]:
        """Of each event the error number if it can't be counted here, or 0.

        Tried on a thread of this process: no instance is needed.

        :raises OSError: none can be, as EACCES or ENOSYS.
        :raises ValueError: a name is not an event's.
        """
        return [missing(_event(name)) for name in events]

    def _row(self, wanted: Wanted, events: Sequence[Event]) -> list[int]:
        try:
            counted, numbers = self._count(wanted, events)
        except (OSError, ValueError) as exc:
            number = exc.errno if isinstance(exc, OSError) else errno.EINVAL
            return [number or errno.EIO, 0, 0]
        return [0, counted.opened, len(numbers), *numbers]

    def _count(
        self, wanted: Wanted, events: Sequence[Event]
    ) -> tuple[Counted, tuple[int, ...]]:
        """The counters, opened if they are not or can't be read any more."""
        for _ in range(_TRIES):
            counted = self._open.get(wanted) or self._opened(wanted, events)
            try:
                numbers = counted.read()
            except ChildProcessError:
                pass
            else:
                if counted.layout or not counted.shared:
                    return counted, numbers
                # Smaller groups count more, here and for whoever comes next.
                self._layout = 1
            self._close(wanted)
        raise BlockingIOError(errno.EAGAIN, "threads start all the time")

    def _opened(self, wanted: Wanted, events: Sequence[Event]) -> Counted:
        pid = self._qemus.pid(wanted.name, checked(wanted.uuid))
        process = processes.read(self._proc, pid)
        if process is None or process.identity != wanted[2:4]:
            raise ProcessLookupError(errno.ESRCH, "it is another process")
        counted = Counted(
            functools.partial(self._qemus.threads, pid),
            events,
            self._layout,
            hardware=wanted.hardware,
        )
        self._open[wanted] = counted
        return counted

    def _close(self, wanted: Wanted) -> None:
        self._open.pop(wanted).close()


def decoded(answer: bytes, events: int) -> Iterator[Count]:
    """One for each instance that :meth:`Counting.read` was asked for."""
    numbers = array("q", answer).tolist()
    at = 0
    while at < len(numbers):
        error, opened, others = numbers[at : at + _HEAD]
        at += _HEAD + others
        enabled, *rest = numbers[at - others : at] or [0]
        yield Count(error, opened, enabled, rest[:events], rest[events:])


def _packed(numbers: list[int]) -> bytes:
    try:
        return array("q", numbers).tobytes()
    except OverflowError:
        # Of a PMU that lies, which costs no other instance its counts. No CPU
        # comes to the most that there can be, either.
        return array("q", (min(n, _MOST) for n in numbers)).tobytes()


def _event(name: str) -> Event:
    event = EVENTS.get(name)
    if event is None or event.kind not in TYPES:
        raise ValueError(f"not an event: {name!r}")
    return event


def _raise_file_limit() -> None:
    """As far as it may be: each event is open on each thread."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
