# SPDX-License-Identifier: Apache-2.0
"""Compare what a clock counted with the CPU time of the process.

The latter is the kernel's (proc(5)), in whole ticks, and read a moment before
or after the clock. A clock of perf goes on during interrupts, and while the
hypervisor of a host that is a virtual machine itself runs something else. CPU
time does neither, so the clock is ahead by what was stolen from the process's
CPUs.
"""

import os
from dataclasses import dataclass

from ceilometer_perf.host.processes import Process

PRECISION = 0.05  # largest error of a coverage that still counts as evidence

HERTZ = os.sysconf("SC_CLK_TCK")
TICK = 1 / HERTZ  # seconds
_CPUS = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Point:
    """The process's CPU time at one moment, and by how much it may be off.

    And what had been stolen from all CPUs of the host. In ns, like the clock
    of the counters.
    """

    clock: int
    cpu: int
    stolen: int
    unsure: float

    @classmethod
    def seen(
        cls, clock: int, process: Process, stolen: int, late: float
    ) -> "Point":
        """``late``: seconds between both readings at most."""
        # Each thread may have run on between the two readings, as far as
        # there are CPUs; and both parts of CPU time are in whole ticks.
        unsure = late * min(process.threads, _CPUS) + 2 * TICK
        return cls(clock, process.cpu_ns, stolen, unsure * 1e9)


START = Point(clock=0, cpu=0, stolen=0, unsure=0)
"""When the process starts. As if all was stolen since, which may be less."""


@dataclass(slots=True)
class Measure:
    """One clock of the counters, compared with the process's CPU time.

    Growth is measured from ``base``, which follows at least one floor of CPU
    time behind.
    """

    base: Point = START
    next_base: Point = START

    def coverage(self, now: Point, floor: float) -> float | None:
        """Share of the CPU time that the clock saw; None if too early.

        ``floor`` is in ns. More than 1 is what theft does not explain.
        """
        if now.clock < self.base.clock:  # it restarted: so does measuring
            self.base = self.next_base = now
        used = now.cpu - self.base.cpu
        unsure = now.unsure + self.base.unsure
        if used < floor or unsure > used * PRECISION:
            return None
        # Steal may fall when the host's own hypervisor migrates it.
        stolen = max(0, now.stolen - self.base.stolen)
        ahead = now.clock - self.base.clock - used
        coverage = 1 + (ahead - min(max(ahead, 0), stolen)) / used
        if now.cpu - self.next_base.cpu >= floor:
            self.base, self.next_base = self.next_base, now
        return coverage
