# SPDX-License-Identifier: Apache-2.0
"""The QEMU process behind a domain, as anybody may see it.

libvirt's QEMU driver writes ``NAME.pid`` for each domain when it starts it,
and ``driver.pid`` for itself, both readable for all, like ``/proc/PID/stat``
(proc(5)). Nothing here can wait for a guest, or for libvirt. In another PID
namespace than libvirt's, as in a container, the number in the file is another
process, so each is looked at before it is believed.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ceilometer_perf import files
from ceilometer_perf.host import qemus

#: What libvirt's QEMU driver runs in.
DRIVERS = (b"libvirtd", b"virtqemud")

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # ns
# Indexes in stat after the command's closing parenthesis; proc(5) counts
# from 1, and the command is its field 2.
_UTIME, _STIME, _THREADS, _STARTTIME = 14 - 3, 15 - 3, 20 - 3, 22 - 3
# And in the first line of /proc/stat.
_STOLEN = slice(6, 9)  # irq, softirq, steal


@dataclass(frozen=True, slots=True)
class Process:
    """A process and what it has used so far.

    ``started`` is in clock ticks since the host booted; together with the
    pid it tells this process from any other. ``cpu_ns`` is the CPU time of
    all its threads, of those that have ended too, in steps of a clock tick.
    ``read_at`` is in seconds of CLOCK_BOOTTIME.
    """

    pid: int
    started: int
    threads: int
    cpu_ns: int
    read_at: float = field(default=0.0, compare=False)

    @property
    def identity(self) -> tuple[int, int]:
        """Equal for one process only, as long as the host is up."""
        return self.pid, self.started


class Processes:
    """Finds the processes of libvirt's QEMU driver.

    Safe to call from several threads.
    """

    def __init__(self, run: Path, proc: Path = Path("/proc")) -> None:
        """``run``: the driver's folder, usually /run/libvirt/qemu."""
        self._run = run
        self._proc = proc
        # By name: its identity, and when it was started.
        self._found: dict[str, tuple[tuple[int, int], datetime | None]] = {}

    def guest(self, name: str, uuid: str) -> Process | None:
        """The process of the instance whose domain has this name.

        None where there is none, or where its files can't be read.
        """
        return self._known(name) or self._find(
            name, lambda pid: qemus.is_qemu_of(uuid, self._of(pid, "cmdline"))
        )

    def driver(self) -> Process | None:
        """libvirtd, or virtqemud."""
        return self._known("driver") or self._find(
            "driver", lambda pid: self._of(pid, "comm").strip() in DRIVERS
        )

    def runs(self, process: Process) -> bool:
        """Whether this process has not ended."""
        now = read(self._proc, process.pid)
        return now is not None and now.identity == process.identity

    def are_hidden(self) -> bool:
        """Whether /proc doesn't show those of others (hidepid in proc(5)).

        Any other shows process 1, which never ends.
        """
        return read(self._proc, 1) is None

    def stolen_ns(self) -> int:
        """What interrupts and the hypervisor have taken from the host's CPUs.

        In steps of a clock tick, since the host booted; 0 if unknown. The
        kernel takes it off the CPU time of whatever ran, if it accounts for
        it (CONFIG_IRQ_TIME_ACCOUNTING, CONFIG_PARAVIRT_TIME_ACCOUNTING).
        """
        numbers = (files.peek(f"{self._proc}/stat") or b"").split(maxsplit=9)
        try:
            return sum(map(int, numbers[_STOLEN])) * _TICK
        except ValueError:
            return 0

    def booted_at(self, name: str) -> datetime | None:
        """When the domain's process was started; does not change later."""
        found = self._found.get(name)
        return self._written_at(name) if found is None else found[1]

    def threads(self, process: Process) -> frozenset[int]:
        """Thread ids; none of a process that has ended."""
        try:
            tasks = (self._proc / str(process.pid) / "task").iterdir()
            return frozenset(int(task.name) for task in tasks)
        except OSError:
            return frozenset()

    def forget_all_but(self, names: set[str]) -> None:
        """Drop what is remembered of other domains."""
        # Polling sources of another interval look for guests in the meantime,
        # in threads of their own: iterate over a copy.
        for name in self._found.copy():
            if name not in names:
                self._found.pop(name, None)

    def _pid_file(self, name: str) -> Path:
        return self._run / f"{name}.pid"

    def _written_at(self, name: str) -> datetime | None:
        try:
            written = self._pid_file(name).stat().st_mtime_ns
        except OSError:
            return None
        return datetime.fromtimestamp(written / 1e9, UTC)

    def _known(self, name: str) -> Process | None:
        """The process that was found before, if it still runs."""
        if name not in self._found:
            return None
        identity, _ = self._found[name]
        process = read(self._proc, identity[0])
        if process is None or process.identity != identity:
            return None
        return process

    def _find(
        self, name: str, is_right: Callable[[int], bool]
    ) -> Process | None:
        self._found.pop(name, None)
        try:
            pid = int(files.read(self._pid_file(name)))
            if not is_right(pid):
                return None
        except (OSError, ValueError):
            return None
        process = read(self._proc, pid)
        if process is not None:
            self._found[name] = process.identity, self._written_at(name)
        return process

    def _of(self, pid: int, file: str) -> bytes:
        return (self._proc / str(pid) / file).read_bytes()


def any_runs(command: str, proc: Path = Path("/proc")) -> bool:
    """Whether a process of a command, or a script, is seen."""
    for path in proc.glob("[0-9]*/cmdline"):
        try:
            # The first may be the interpreter. cotyledon makes it a title.
            words = files.read(path).decode(errors="replace").split("\0")[:2]
        except OSError:  # it ended, or is hidden
            continue
        if any(Path(w.partition(": ")[0]).name == command for w in words):
            return True
    return False


def read(proc: Path, pid: int) -> Process | None:
    """The process with this number, as /proc has it; None if it has ended."""
    stat = files.peek(f"{proc}/{pid}/stat")
    return None if stat is None else _parse(pid, stat)


def _parse(pid: int, stat: bytes) -> Process | None:
    # The command may contain anything, parentheses and blanks included.
    fields = stat[stat.rfind(b")") + 2 :].split(maxsplit=_STARTTIME + 1)
    try:
        return Process(
            pid=pid,
            started=int(fields[_STARTTIME]),
            threads=int(fields[_THREADS]),
            cpu_ns=(int(fields[_UTIME]) + int(fields[_STIME])) * _TICK,
            read_at=time.clock_gettime(time.CLOCK_BOOTTIME),
        )
    except (IndexError, ValueError):
        return None
