# SPDX-License-Identifier: Apache-2.0
"""Counters that the agent's privileged helper counts itself.

Of instances whose libvirt counters are no longer right, or that have none.
"""

import dataclasses
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.own_gate import OwnGate
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.trust import Judged, Policy
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.events import EVENTS
from ceilometer_perf.host.counted import NOT_WANTED
from ceilometer_perf.host.counting import (
    Count,
    Wanted,
    decoded,
)
from ceilometer_perf.host.processes import Process, Processes
from ceilometer_perf.meters import HARDWARE_KEYS
from ceilometer_perf.reading import Counters, Guest, Moment, utc_now

Ask = Callable[[Sequence[Wanted], Sequence[str]], bytes]
"""See :meth:`ceilometer_perf.host.counting.Counting.read`."""


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """Which ``events`` to count, by name, and of whom.

    ``always``: of every instance. ``no_hardware``: why no hardware event can
    be counted on this host.
    """

    events: tuple[str, ...]
    always: bool = False
    no_hardware: Judgement | None = None


_UNSEEN = (
    "own counters: there are instances whose QEMU can't be seen, and that are "
    f"not counted; {verdicts.SEE_QEMU}"
)


class Own:
    """Not safe for threads."""

    name = "own"

    def __init__(
        self, ask: Ask | None, processes: Processes, policy: Policy,
        own: OwnPolicy,
    ) -> None:  # fmt: skip
        """``ask`` is None where there is no helper to ask."""
        self._ask = ask
        self._processes = processes
        self._own = own
        self._keys = [EVENTS[event].key for event in own.events]
        self._gate = OwnGate(policy, self._keys)
        self._wanted: dict[str, Wanted] = {}
        #: The helper may have something open.
        self._counting = False
        self._changes = Changes(log.getLogger(__name__))

    def look(
        self, guests: Mapping[str, Guest], answers: Mapping[str, Answer]
    ) -> Mapping[str, Answer]:
        """Count where ``answers``, libvirt's, leave something to count.

        Never raises; those that nobody can be asked about are left out.
        """
        chosen = {
            uuid: answer
            for uuid, answer in answers.items()
            if self._own.always or _lacks(answer)
        }
        self._wanted = {
            uuid: self._want(uuid, guests[uuid].name, answer.process, answer)
            for uuid, answer in chosen.items()
            if answer.process is not None
        }
        if chosen.keys() > self._wanted.keys():
            self._changes.trouble("processes", _UNSEEN)
        else:
            self._changes.fine("processes", "own counters: all can be seen")
        counts = self._counts()
        moment = Moment(time.monotonic(), utc_now())
        stolen = self._processes.stolen_ns() if counts else 0
        return {
            uuid: self._nothing(count, moment)
            if isinstance(count, Judgement)
            else self._answer(uuid, count, chosen[uuid], moment, stolen)
            for uuid, count in counts.items()
        }

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Forget instances that are gone, or are not counted any more."""
        self._gate.forget_all_but(
            {uuid for uuid in self._wanted if uuid in uuids}
        )

    def _want(
        self, uuid: str, name: str, process: Process, answer: Answer
    ) -> Wanted:
        hardware = self._own.no_hardware is None and not _uses_pmu(answer)
        wanted = Wanted(name, uuid, *process.identity, hardware)
        before = self._wanted.get(uuid)
        if before is None or before[:-1] != wanted[:-1]:
            return wanted
        if not self._gate.is_wrong(uuid):
            return before
        return wanted._replace(attempt=before.attempt + 1)

    def _counts(self) -> Mapping[str, Count | Judgement]:
        """By instance; nobody is asked where nothing is or was wanted."""
        if not self._wanted and not self._counting:
            return {}
        if self._ask is None:
            return dict.fromkeys(self._wanted, verdicts.AGENT_COUNTS)
        try:
            answer = self._ask([*self._wanted.values()], self._own.events)
        except Exception as exc:  # whatever privsep makes of a failure
            why = verdicts.helper_failed(f"{type(exc).__name__}: {exc}")
        else:
            self._counting = bool(self._wanted)
            self._changes.fine(self.name, "own counters are read again")
            counts = decoded(answer, len(self._keys))
            return dict(zip(self._wanted, counts, strict=True))
        # Not above: within `except`, oslo.log appends the exception.
        self._changes.trouble(self.name, f"own counters are not read: {why}")
        return {}

    def _answer(
        self, uuid: str, count: Count, answer: Answer, moment: Moment,
        stolen: int,
    ) -> Answer:  # fmt: skip
        if count.error:
            return self._nothing(verdicts.not_counted(count.error), moment)
        process, late = self._process(uuid, count, answer)
        if process is None:
            return self._nothing(verdicts.MEANWHILE, moment)
        judged = self._gate.judge(uuid, count, process, stolen, late)
        counters = dict(zip(self._keys, count.counts, strict=True))
        if min(count.counts) < 0:
            judged = self._without_lacking(judged, counters)
            counters = {key: n for key, n in counters.items() if n >= 0}
        trusted = judged.trusted(counters)
        return Answer(self.name, moment, process, counters, trusted, judged)

    def _process(
        self, uuid: str, count: Count, answer: Answer
    ) -> tuple[Process | None, float]:
        """The process, and how many seconds off the count it was read.

        As libvirt's gate has seen it; but what it used until it was counted
        is not in the count.
        """
        before, opened = answer.process, count.opened / 1e9
        if before is not None and before.read_at > opened:
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            return before, now - before.read_at
        wanted = self._wanted[uuid]
        process = self._processes.guest(wanted.name, uuid)
        if process is None or process.identity != (wanted.pid, wanted.started):
            return None, 0.0
        return process, process.read_at - opened

    def _without_lacking(self, judged: Judged, counts: Counters) -> Judged:
        """``counts`` are error numbers where there is nothing to judge."""
        judgements = {
            key: self._why_lacking(-number)
            if number < 0
            else judged.judgements[key]
            for key, number in counts.items()
        }
        return dataclasses.replace(
            judged,
            judgements={
                key: each
                for key, each in judgements.items()
                if counts[key] >= 0 or each.verdict.withholds
            },
        )

    def _why_lacking(self, number: int) -> Judgement:
        if number == NOT_WANTED:
            return self._own.no_hardware or verdicts.COUNTED_BY_LIBVIRT
        return verdicts.not_counted(number)

    def _nothing(self, why: Judgement, moment: Moment) -> Answer:
        judged = Judged(dict.fromkeys(self._keys, why), None, moment.at)
        return Answer(self.name, moment, None, {}, {}, judged)


def _lacks(answer: Answer) -> bool:
    """Whether libvirt counts nothing right that would be in the way."""
    given = {each.verdict for each in answer.judged.judgements.values()}
    return not given or (Verdict.DETACHED in given and not _uses_pmu(answer))


def _uses_pmu(answer: Answer) -> bool:
    """Whether libvirt has hardware events on the instance's vCPUs.

    Others beside them would share the CPUs' counters, and libvirt does not
    scale what it then misses.
    """
    judgements = answer.judged.judgements
    return any(
        judgements[key].verdict is not Verdict.DETACHED
        for key in judgements.keys() & HARDWARE_KEYS
    )
