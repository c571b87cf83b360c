# SPDX-License-Identifier: Apache-2.0
"""The gate: publish a counter only if it is right.

libvirt's perf counters are opened on QEMU's main thread and inherited by the
threads that it starts afterwards. Opened before the vCPUs start they are
right. Opened later, because somebody enabled an event on the running guest
or because libvirtd was restarted and opened them anew, they count next to
nothing, and nothing says so. What gives them away:

- the clock events grow slower than the CPU time of the process;
- a counter falls while the process is the same one;
- an event appears while the process is the same one;
- libvirt's daemon is younger than the process.

Once detached, a counter stays so for the life of the QEMU process: threads
that start later (hot-plugged vCPUs, say) would make it look better, not
right.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ceilometer_perf import verdicts
from ceilometer_perf.host.processes import Process
from ceilometer_perf.meters import HARDWARE_KEYS, PERF_KEYS
from ceilometer_perf.reading import Counters
from ceilometer_perf.verdicts import Judgement, Verdict

CLOCKS = ("perf.task_clock", "perf.cpu_clock")

PRECISION = 0.05  # largest error of a coverage that decides anything

# While libvirt starts a guest, it is listed before its events are open.
STARTING = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided.

    ``coverage_floor`` is in seconds of CPU time, ``hardware_counters`` the
    number that the host's CPUs have, 0 for unknown.
    """

    min_coverage: float = 0.9
    coverage_floor: float = 1.0
    withhold_in_doubt: bool = False
    hardware_counters: int = 0
    withhold_multiplexed: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one instance in one cycle, besides its counters.

    ``boot`` is libvirt's domain id, which is new at each boot. ``process``
    was read after the counters, ``late`` seconds after at most; ``driver``
    is libvirt's daemon. ``booted_at`` and ``now`` are wall clock times.
    """

    boot: int
    process: Process | None
    driver: Process | None
    booted_at: datetime | None
    now: datetime
    late: float

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
    (1 is all), None where nothing can be said. ``since`` is when the
    counters began, the same as long as they go on.
    """

    judgements: Mapping[str, Judgement]
    coverage: float | None
    since: datetime
    flagged: frozenset[Verdict] = frozenset()

    def trusted(self, counters: Counters) -> Counters:
        """Those that may be published."""
        good = self.flagged | {Verdict.OK}
        return {
            key: value
            for key, value in counters.items()
            if key not in self.judgements
            or self.judgements[key].verdict in good
        }

    def flags(self) -> list[str]:
        """What is wrong with some of those that are published."""
        present = {each.verdict for each in self.judgements.values()}
        return sorted(self.flagged & present)


@dataclass(frozen=True, slots=True)
class _Point:
    """A clock of the counters and the process's, in ns, at one moment."""

    clock: int
    cpu: int


_START = _Point(clock=0, cpu=0)


@dataclass(slots=True)
class _Life:
    """What the gate remembers of an instance from boot to shutdown."""

    boot: int
    process: Process | None
    since: datetime
    # An event that shows up after this was enabled on the running guest.
    settled: bool = False
    last: dict[str, int] = field(default_factory=dict)
    detached: dict[str, Judgement] = field(default_factory=dict)
    # Growth is measured from `base`, which follows at least one floor of
    # CPU time behind. The process's start is the first one.
    base: _Point = _START
    next_base: _Point = _START
    coverage: float | None = None

    def goes_on(self, evidence: Evidence) -> bool:
        """Whether the instance is in the same life still."""
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
        counted = {k: v for k, v in counters.items() if k in PERF_KEYS}
        self._see_restarts(life, counted, evidence)
        self._measure(life, counted, evidence)
        life.last.update(counted)
        return Judged(
            judgements=self._judgements(life, counted),
            coverage=life.coverage,
            since=life.since,
            flagged=self._flagged,
        )

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Drop the memory of instances that are gone from this host."""
        self._lives = {u: m for u, m in self._lives.items() if u in uuids}

    def _life(self, uuid: str, evidence: Evidence) -> _Life:
        life = self._lives.get(uuid)
        if life is None or not life.goes_on(evidence):
            since = evidence.booted_at or evidence.now
            life = _Life(evidence.boot, evidence.process, since)
            self._lives[uuid] = life
        return life

    def _see_restarts(
        self, life: _Life, counters: Counters, evidence: Evidence
    ) -> None:
        fell = {k for k, v in counters.items() if v < life.last.get(k, 0)}
        if fell and evidence.driver is None:
            # It may have been libvirtd, which can't be seen from here.
            life.detach(counters, verdicts.FELL)
        elif fell and evidence.driver_is_younger:
            life.detach(counters, verdicts.RESTARTED)
        else:
            life.detach(fell, verdicts.FELL)
        if life.settled:
            late = counters.keys() - life.last.keys()
            life.detach(late, verdicts.ENABLED_LIVE)
        elif counters or evidence.now - life.since > STARTING:
            life.settled = True

    def _measure(
        self, life: _Life, counters: Counters, evidence: Evidence
    ) -> None:
        """Compare the clock's growth with that of the CPU time."""
        life.coverage = None
        clock = next((key for key in CLOCKS if key in counters), None)
        process = evidence.process
        if clock is not None and process is not None:
            now = _Point(clock=counters[clock], cpu=process.cpu_ns)
            # Each thread may have run on between the two readings.
            self._compare(life, now, evidence.late * process.threads * 1e9)
        if life.coverage is None:
            if evidence.driver_is_younger:
                life.detach(counters, verdicts.RESTARTED)
        elif life.coverage < self._policy.min_coverage:
            why = verdicts.uncovered(life.coverage)
            if evidence.driver_is_younger:
                why = verdicts.RESTARTED
            life.detach(counters, why)

    def _compare(self, life: _Life, now: _Point, unsure: float) -> None:
        if now.clock < life.base.clock:  # it began anew: so does measuring
            life.base = life.next_base = now
        used = now.cpu - life.base.cpu
        floor = self._policy.coverage_floor * 1e9
        if used < floor or unsure > used * PRECISION:
            return
        life.coverage = (now.clock - life.base.clock) / used
        if now.cpu - life.next_base.cpu >= floor:
            life.base, life.next_base = life.next_base, now

    def _judgements(
        self, life: _Life, counters: Counters
    ) -> Mapping[str, Judgement]:
        in_doubt = self._policy.withhold_in_doubt and life.coverage is None
        hardware = counters.keys() & HARDWARE_KEYS
        room = self._policy.hardware_counters
        judgements = dict.fromkeys(
            counters, verdicts.IN_DOUBT if in_doubt else verdicts.OK
        )
        if 0 < room < len(hardware):
            why = verdicts.multiplexed(len(hardware), room)
            judgements.update(dict.fromkeys(hardware, why))
        judgements.update(life.detached)
        return judgements
