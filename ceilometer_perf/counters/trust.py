# SPDX-License-Identifier: Apache-2.0
"""The gate: publish a counter only if it is right.

libvirt's perf counters are opened on QEMU's main thread and inherited by the
threads that it starts afterwards. Opened before the vCPUs start they are
right. Opened later, because an event was enabled on the running guest
or because libvirtd was restarted and opened them again, they count next to
nothing, without any error. The signs are:

- a clock event grows slower than the CPU time of the process;
- a counter falls while the process is the same one;
- an event appears while the process is the same one;
- the running instance has an event that its definition does not have;
- libvirt's daemon is younger than the process.

Once detached, a counter stays so for the life of the QEMU process: threads
that start later (such as hot-plugged vCPUs) would make it look better,
not right.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.coverage import HERTZ, TICK, Measure, Point
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.processes import Process
from ceilometer_perf.meters import (
    HARDWARE_KEYS,
    LEVELS,
    PERF_KEYS,
    RDT_EVENTS,
)
from ceilometer_perf.reading import Counters

CLOCKS = ("perf.task_clock", "perf.cpu_clock")

GATED = PERF_KEYS | RDT_EVENTS.keys()

# While libvirt starts a guest, it is listed before its events are open.
STARTING = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """The options of ``[perf]`` that the gate follows.

    ``coverage_floor`` is in seconds of CPU time, ``hardware_counters`` the
    number that the host's CPUs have, 0 for unknown. ``is_hybrid``: these are
    of several kinds.
    """

    min_coverage: float = 0.9
    coverage_floor: float = 1.0
    withhold_in_doubt: bool = False
    hardware_counters: int = 0
    withhold_multiplexed: bool = True
    min_running: float = 0.2
    is_hybrid: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one instance in one cycle, besides its counters.

    ``boot`` is libvirt's domain id, which is new at each boot. ``process``
    was read after the counters, ``late`` seconds after at most; ``driver``
    is libvirt's daemon, and ``stolen`` what was taken from the host's CPUs, in
    ns. ``booted_at`` and ``now`` are wall clock times, ``uptime`` is in
    seconds since the host booted. ``undefined`` are keys of counters that the
    instance's definition does not have.
    """

    boot: int
    process: Process | None
    driver: Process | None
    booted_at: datetime | None
    now: datetime
    uptime: float
    late: float
    stolen: int
    undefined: frozenset[str] = frozenset()

    @property
    def age(self) -> float:
        """Seconds since the process was started; 0 if it can't be seen.

        Unlike ``booted_at``, not by the wall clock, which may be changed.
        """
        if self.process is None:
            return 0.0
        return self.uptime - self.process.started / HERTZ

    @property
    def started_meanwhile(self) -> bool:
        """Whether the counters may be those of the process before this one."""
        seen = self.process is not None
        return seen and self.age <= self.late + 2 * TICK

    @property
    def driver_is_younger(self) -> bool:
        """Whether libvirt's daemon was started after the guest was."""
        return (
            self.driver is not None
            and self.process is not None
            and self.driver.started > self.process.started
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """One instance after the gate.

    ``judgements`` has one for each perf counter of the instance, by key,
    ``flagged`` are the verdicts that mark a counter instead of withholding
    it, and ``coverage`` is the share of the CPU time that the counters saw
    (1 is all), None if it is unknown. ``since`` is when the counters
    started, unchanged until they restart. ``share`` is that of the time in
    which the published ones counted, at least; what they missed is scaled.
    """

    judgements: Mapping[str, Judgement]
    coverage: float | None
    since: datetime
    flagged: frozenset[Verdict] = frozenset()
    share: float = 1.0

    @property
    def not_running(self) -> bool:
        """Whether it ended, or began, while it was being read."""
        return any(
            each.verdict is Verdict.NOT_RUNNING
            for each in self.judgements.values()
        )

    def trusted(self, counters: Counters) -> Counters:
        """Those that may be published."""
        if not self.judgements:
            return counters
        good = self._good()
        return {
            key: value
            for key, value in counters.items()
            if key not in self.judgements
            or self.judgements[key].verdict in good
        }

    def withheld(self) -> Mapping[str, int]:
        """How many counters may not be published, by verdict."""
        bad = {each.verdict for each in self.judgements.values()}
        bad -= self._good()
        if not bad:
            return {}
        given = Counter(each.verdict for each in self.judgements.values())
        return {
            verdict.value: given[verdict]
            for verdict in sorted(bad)
            if verdict.withholds
        }

    def flags(self) -> list[str]:
        """What is wrong with some of those that are published."""
        present = {each.verdict for each in self.judgements.values()}
        scaled = {Verdict.MULTIPLEXED} if self.share < 1 else set()
        return sorted(self.flagged & present | scaled)

    def _good(self) -> frozenset[Verdict]:
        """The verdicts with which a counter is published."""
        return self.flagged | {Verdict.OK}


@dataclass(slots=True)
class _Life:
    """What the gate remembers of an instance from boot to shutdown."""

    boot: int
    process: Process | None
    since: datetime
    started: float  # seconds since the host booted
    # An event that shows up after this was enabled on the running guest.
    settled: bool = False
    last: Counters = field(default_factory=dict)
    detached: dict[str, Judgement] = field(default_factory=dict)
    measures: dict[str, Measure] = field(
        default_factory=lambda: {clock: Measure() for clock in CLOCKS}
    )
    coverage: float | None = None
    # A clock has once counted what the process used. What goes wrong later is
    # seen without a clock: a counter falls, or an event appears.
    proven: bool = False

    def goes_on(self, evidence: Evidence) -> bool:
        """Whether the instance is still in the same life."""
        process = evidence.process
        return self.boot == evidence.boot and (
            process is None
            or self.process is None
            or process.identity == self.process.identity
        )

    def detach(self, keys: Iterable[str], why: Judgement) -> None:
        """For the rest of this life; the first reason stands."""
        for key in keys:
            self.detached.setdefault(key, why)


class Gate:
    """Remembers instances from cycle to cycle. Not safe for threads."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._flagged = frozenset(
            () if policy.withhold_multiplexed else (Verdict.MULTIPLEXED,)
        )
        self._lives: dict[str, _Life] = {}

    def judge(
        self, uuid: str, counters: Counters, evidence: Evidence
    ) -> Judged:
        """Judge every perf counter of one instance."""
        life = self._life(uuid, evidence)
        counted = {k: v for k, v in counters.items() if k in GATED}
        self._see_restarts(life, counted, evidence)
        self._measure(life, counted, evidence)
        life.last = counted
        return Judged(
            judgements=self._judgements(life, counted),
            coverage=life.coverage,
            since=life.since,
            flagged=self._flagged,
        )

    def ended(self, uuid: str, evidence: Evidence) -> bool:
        """Whether the instance's QEMU, which has been seen, is gone.

        Its counters may have been read long ago, if libvirt was slow.
        """
        life = self._lives.get(uuid)
        seen = life is not None and life.process is not None
        return seen and evidence.process is None

    def forget_all_but(
        self, uuids: Container[str], runs: Callable[[Process], bool]
    ) -> None:
        """Forget instances that are gone from this host.

        Not of one whose QEMU process still runs: it is not listed while it
        migrates, and is listed again, with the same counters, if that fails.
        """
        self._lives = {
            uuid: life
            for uuid, life in self._lives.items()
            if uuid in uuids
            or (life.process is not None and runs(life.process))
        }

    def _life(self, uuid: str, evidence: Evidence) -> _Life:
        life = self._lives.get(uuid)
        if life is None or not life.goes_on(evidence):
            since = evidence.booted_at or evidence.now
            started = evidence.uptime - evidence.age
            life = _Life(evidence.boot, evidence.process, since, started)
            self._lives[uuid] = life
        life.process = life.process or evidence.process
        return life

    def _see_restarts(
        self, life: _Life, counters: Counters, evidence: Evidence
    ) -> None:
        fell = {
            k
            for k, v in counters.items()
            if v < life.last.get(k, 0) and k not in LEVELS
        }
        if fell and evidence.driver is None:
            # It may have been libvirtd, which can't be seen from here.
            life.detach(counters, verdicts.FELL)
        elif fell and evidence.driver_is_younger:
            life.detach(counters, verdicts.RESTARTED)
        else:
            life.detach(fell, verdicts.FELL)
        if life.settled:
            # Including those that existed before and have since been disabled.
            late = counters.keys() - life.last.keys()
            younger = evidence.driver_is_younger
            why = verdicts.RESTARTED if younger else verdicts.ENABLED_LIVE
            life.detach(late, why)
        elif counters or evidence.uptime - life.started > STARTING:
            life.settled = True
            # It appeared before anybody looked.
            late = counters.keys() & evidence.undefined
            life.detach(late, verdicts.UNDEFINED)

    def _measure(
        self, life: _Life, counters: Counters, evidence: Evidence
    ) -> None:
        """Compare each clock's growth with that of the CPU time.

        If a clock counts too little, its event was opened too late, and so
        may the others have been: all are detached except clocks that count
        right. A clock that was detached before says nothing of the others.
        """
        if not counters:  # as of every instance that only we count
            life.coverage = None
            return
        seen = self._coverages(life, counters, evidence)
        life.coverage = max(seen.values(), default=None)
        low = {k for k, v in seen.items() if v < self._policy.min_coverage}
        good = seen.keys() - low - life.detached.keys()
        if evidence.driver_is_younger and not good:
            life.detach(counters, verdicts.RESTARTED)
        elif witnesses := low - life.detached.keys():
            least = min(seen[clock] for clock in witnesses)
            life.detach(counters.keys() - good, verdicts.uncovered(least))
        life.proven = life.proven or bool(good)

    def _coverages(
        self, life: _Life, counters: Counters, evidence: Evidence
    ) -> Mapping[str, float]:
        """By clock, if it is known."""
        process = evidence.process
        if process is None:
            return {}
        floor = self._policy.coverage_floor * 1e9
        return {
            clock: coverage
            for clock in CLOCKS
            if clock in counters
            and (
                coverage := life.measures[clock].coverage(
                    Point.seen(
                        counters[clock],
                        process,
                        evidence.stolen,
                        evidence.late,
                    ),
                    floor,
                )
            )
            is not None
        }

    def _judgements(
        self, life: _Life, counters: Counters
    ) -> Mapping[str, Judgement]:
        in_doubt = self._policy.withhold_in_doubt and not life.proven
        hardware = counters.keys() & HARDWARE_KEYS
        room = self._policy.hardware_counters
        judgements = dict.fromkeys(
            counters, verdicts.IN_DOUBT if in_doubt else verdicts.OK
        )
        if 0 < room < len(hardware):
            why = verdicts.multiplexed(len(hardware), room)
            judgements.update(dict.fromkeys(hardware, why))
        judgements.update(life.detached)
        if self._policy.is_hybrid:
            judgements.update(dict.fromkeys(hardware, verdicts.HYBRID))
        return judgements
