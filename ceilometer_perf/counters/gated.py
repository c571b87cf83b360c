# SPDX-License-Identifier: Apache-2.0
"""libvirt's counters, and the gate that they have to pass."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.libvirt import PerfSource
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.trust import Evidence, Gate, Policy
from ceilometer_perf.host.processes import Process, Processes
from ceilometer_perf.reading import Guest, Reading

UNSEEN = (
    "there are instances whose QEMU can't be seen: they have no coverage, and "
    f"counters that became wrong may be published; {verdicts.SEE_QEMU}"
)


class Gated:
    """Not safe for threads."""

    name = "libvirt"

    def __init__(
        self, source: PerfSource, processes: Processes, policy: Policy
    ) -> None:
        self._source = source
        self._processes = processes
        self._gate = Gate(policy)
        self._changes = Changes(log.getLogger(__name__))

    def look(self) -> tuple[Reading, Mapping[str, Answer]]:
        """A reading, and the answers in it by instance UUID.

        Without those of instances that started or ended in the meantime.

        :raises SourceUnavailableError: there is no reading in this cycle.
        """
        reading = self._source.read()
        driver = self._processes.driver()
        stolen = self._processes.stolen_ns()
        evidence = {
            uuid: self._evidence(reading, uuid, driver, stolen)
            for uuid in reading.instances
        }
        self._tell(evidence)
        return reading, {
            uuid: self._answer(reading, uuid, each)
            for uuid, each in evidence.items()
            if not (each.started_meanwhile or self._ended(uuid, each))
        }

    def forget_all_but(self, guests: Mapping[str, Guest]) -> None:
        """Forget instances that are gone from this host."""
        self._gate.forget_all_but(guests, self._processes.runs)

    def _ended(self, uuid: str, evidence: Evidence) -> bool:
        """Not if all of them are hidden now: nothing shows that it did."""
        return (
            self._gate.ended(uuid, evidence)
            and not self._processes.are_hidden()
        )

    def _tell(self, evidence: Mapping[str, Evidence]) -> None:
        unseen = [u for u, each in evidence.items() if each.process is None]
        if unseen:
            self._changes.trouble("processes", UNSEEN)
        else:
            self._changes.fine("processes", "every instance's QEMU is seen")

    def _answer(
        self, reading: Reading, uuid: str, evidence: Evidence
    ) -> Answer:
        counters = reading.instances[uuid]
        judged = self._gate.judge(uuid, counters, evidence)
        trusted = judged.trusted(counters)
        return Answer(
            self.name,
            reading.moment,
            evidence.process,
            counters,
            trusted,
            judged,
        )

    def _evidence(
        self, reading: Reading, uuid: str, driver: Process | None, stolen: int
    ) -> Evidence:
        guest = reading.guests[uuid]
        process = self._processes.guest(guest.name, uuid)
        return Evidence(
            boot=guest.id,
            process=process,
            driver=driver,
            booted_at=self._processes.booted_at(guest.name),
            now=datetime.now(UTC),
            uptime=time.clock_gettime(time.CLOCK_BOOTTIME),
            late=time.monotonic() - reading.asked_at,
            stolen=stolen,
            undefined=guest.undefined,
        )
