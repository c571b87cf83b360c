# SPDX-License-Identifier: Apache-2.0
"""Which thread is in which group, and what it does there.

Who created a thread can't be known from /proc: one that shows up is taken
into the group of its process's main thread, and a process that shows up into
the default group, in which nobody counts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.lab.resctrl import threads
from tests.lab.resctrl.threads import Use

G = TypeVar("G")

FRESH = 0.01  # seconds for which a process is not looked at again
WINDOW = 0.1  # seconds over which it is taken how busy a thread is


@dataclass
class Task(Generic[G]):
    """A thread of a process of which one is, or was, in a group."""

    tid: int
    group: G
    use: Use
    #: The share of a CPU that it used, when that was taken, and its CPU time
    #: then.
    taken_at: float
    taken_ns: int
    busy: float = 0.0

    def see(self, use: Use, now: float) -> None:
        """Take up what it has used by now."""
        self.use = use
        passed = now - self.taken_at
        if passed >= WINDOW:
            self.busy = (use.cpu_ns - self.taken_ns) / (passed * 1e9)
            self.taken_at, self.taken_ns = now, use.cpu_ns


class Tasks(Generic[G]):
    """All threads that matter."""

    def __init__(
        self,
        default: G,
        clock: Callable[[], float],
        count: Callable[[G, int, Use], None],
    ) -> None:
        """``count`` is told of CPU time that was used in a group, in ns."""
        self._default = default
        self._clock = clock
        self._count = count
        self._processes: dict[int, dict[int, Task[G]]] = {}
        self._looked_at: dict[int, float] = {}

    def find(self, tid: int) -> Task[G] | None:
        """A thread as it is now; None if it is gone."""
        pid = threads.process(tid)
        if pid is None:
            return None
        self._look(pid)
        return self._processes.get(pid, {}).get(tid)

    def known(self, tid: int) -> Task[G] | None:
        """A thread as it was when it was looked at last."""
        return next((task for task in self._all() if task.tid == tid), None)

    def of(self, group: G) -> list[Task[G]]:
        """The threads in a group as they are now."""
        for pid in list(self._processes):
            if any(t.group is group for t in self._processes[pid].values()):
                self._refresh(pid)
        return [task for task in self._all() if task.group is group]

    def _all(self) -> Iterator[Task[G]]:
        for process in self._processes.values():
            yield from process.values()

    def _refresh(self, pid: int) -> None:
        if self._clock() - self._looked_at[pid] > FRESH:
            self._look(pid)

    def _look(self, pid: int) -> None:
        self._looked_at[pid] = self._clock()
        known = self._processes.get(pid)
        found = (self._task(pid, tid, known) for tid in threads.threads(pid))
        now = {task.tid: task for task in found if task is not None}
        self._processes[pid] = now
        if not now:
            del self._processes[pid], self._looked_at[pid]

    def _task(
        self, pid: int, tid: int, known: dict[int, Task[G]] | None
    ) -> Task[G] | None:
        use = threads.use(tid)
        if use is None:
            return None
        now = self._clock()
        if known is None:
            return Task(tid, self._default, use, now, use.cpu_ns)
        task = known.get(tid)
        if task is None:
            main = known.get(pid)
            group = main.group if main else self._default
            task = Task(tid, group, use, now, use.cpu_ns)
            self._count(task.group, use.cpu_ns, use)
        else:
            self._count(task.group, use.cpu_ns - task.use.cpu_ns, use)
            task.see(use, now)
        return task
