# SPDX-License-Identifier: Apache-2.0
"""How long each instance waited for what it shares with others.

By the kernel's own accounts, which need no counter and no privilege. They
interrupt nobody, so that realtime instances are among them.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ceilometer_perf.counters.monitor import Report, about
from ceilometer_perf.host.processes import Process, Processes
from ceilometer_perf.host.waits import Account, Waits
from ceilometer_perf.meters import PRESSURES, SCHED_DELAY, SCHED_DELAY_RATIO
from ceilometer_perf.reading import (
    SHORTEST,
    Guest,
    Moment,
    Published,
    utc_now,
)


@dataclass(frozen=True, slots=True)
class Vcpus:
    """What the vCPUs of one process do.

    ``used`` and ``waited`` are in CPUs; None until there are two looks.
    """

    process: tuple[int, int]
    threads: frozenset[int]
    used: float | None = None
    waited: float | None = None


@dataclass(frozen=True, slots=True)
class WaitingReport:
    """What may be published, and of which vCPUs, by instance UUID."""

    published: Mapping[str, Published] = field(default_factory=dict)
    vcpus: Mapping[str, Vcpus] = field(default_factory=dict)


@dataclass(slots=True)
class _Life:
    """What is known of one QEMU process since it was first seen."""

    process: tuple[int, int]
    since: datetime
    #: ns by thread id, when last seen; of those that have ended, too.
    delays: Mapping[int, int]
    #: Those of the look from which a share was computed last, and when.
    before: Mapping[int, Account]
    before_at: float
    #: ns of threads whose numbers others have now.
    ended: int = 0
    #: Of the time of those vCPUs that were seen twice.
    ran: float | None = None
    waited: float | None = None

    def add(self, accounts: Mapping[int, Account], at: float) -> None:
        """A new look, at a moment of the monotonic clock."""
        delays = _delays(accounts)
        self.ended += sum(
            self.delays[tid]
            for tid, ns in delays.items()
            if ns < self.delays.get(tid, 0)
        )
        self.delays = {**self.delays, **delays}
        # Polling sources with different intervals sometimes look at nearly
        # the same time: the second gets the share of the first.
        if at - self.before_at >= SHORTEST:
            seconds = at - self.before_at
            self.ran = _share(self.before, accounts, 0, seconds)
            self.waited = _share(self.before, accounts, 1, seconds)
            self.before, self.before_at = accounts, at

    def values(self) -> dict[str, float]:
        """By the meters' keys."""
        total = self.ended + sum(self.delays.values())
        values: dict[str, float] = {SCHED_DELAY.key: total}
        if self.waited is not None:
            values[SCHED_DELAY_RATIO.key] = self.waited
        return values

    def vcpus(self) -> Vcpus:
        """What they do."""
        number = len(self.before)
        return Vcpus(
            self.process,
            frozenset(self.before),
            None if self.ran is None else self.ran * number,
            None if self.waited is None else self.waited * number,
        )


class Waiting:
    """The one of this process. Safe to call from several threads."""

    def __init__(self, waits: Waits, processes: Processes) -> None:
        self._waits = waits
        self._processes = processes
        self._lives: dict[str, _Life] = {}
        self._lock = threading.Lock()

    def look(self, report: Report) -> WaitingReport:
        """Read every instance of this report that runs, once."""
        with self._lock:
            running = {
                uuid: process
                for uuid, guest in report.guests.items()
                if guest.id >= 0
                and (process := self._processes.guest(guest.name, uuid))
                is not None
            }
            published = {
                uuid: self._publish(uuid, report.guests[uuid], process)
                for uuid, process in running.items()
            }
            self._lives = {
                uuid: life
                for uuid, life in self._lives.items()
                if uuid in running
            }
            self._waits.forget_all_but(
                {process.identity for process in running.values()}
            )
            return WaitingReport(
                {
                    uuid: each
                    for uuid, each in published.items()
                    if each.values
                },
                {uuid: life.vcpus() for uuid, life in self._lives.items()},
            )

    def _publish(self, uuid: str, guest: Guest, process: Process) -> Published:
        accounts = self._waits.accounts(process)
        pressure = self._waits.pressure(process)
        moment = Moment(time.monotonic(), utc_now())
        life = self._live(uuid, process, accounts, moment)
        values = life.values() if accounts else {}
        values |= {
            PRESSURES[resource].key: share
            for resource, share in pressure.items()
        }
        metadata = {
            "source": "kernel",
            "since": life.since.isoformat(),
            **about(guest),
        }
        return Published(values, moment, metadata)

    def _live(
        self, uuid: str, process: Process, accounts: Mapping[int, Account],
        moment: Moment,
    ) -> _Life:  # fmt: skip
        life = self._lives.get(uuid)
        if life is None or life.process != process.identity:
            life = self._lives[uuid] = _Life(
                process.identity, moment.at, _delays(accounts), accounts,
                moment.taken_at,
            )  # fmt: skip
        else:
            life.add(accounts, moment.taken_at)
        return life


def _delays(accounts: Mapping[int, Account]) -> Mapping[int, int]:
    return {tid: each.waited for tid, each in accounts.items()}


def _share(
    before: Mapping[int, Account],
    after: Mapping[int, Account],
    index: int,
    seconds: float,
) -> float | None:
    """Of the vCPUs' time; None if all of them are others."""
    both = [
        (old[index], after[tid][index])
        for tid, old in before.items()
        if tid in after and after[tid] >= old and after[tid][1] >= old[1]
    ]
    if not both:
        return None
    grown = sum(new - old for old, new in both)
    # A wait is accounted for at its end, and may have begun before.
    return min(1.0, grown / (1e9 * seconds * len(both)))
