# SPDX-License-Identifier: Apache-2.0
"""Whether a PMU counts at all what the instance used.

In virtual machines, under nested virtualization, and where somebody else holds
the counters, hardware events may open without error, and then stand still or
count next to nothing. No time that the kernel reports shows it: only the count
itself, held against the CPU time. What is beyond any CPU is not published.
"""

import dataclasses
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.source import Answer
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.meters import HARDWARE_KEYS
from ceilometer_perf.reading import Counters

CYCLES = "perf.cpu_cycles"


@dataclass(frozen=True, slots=True)
class Bound:
    """What a counter must grow by, at least and at most.

    For each ``per``: another counter, or a second of CPU time.
    """

    key: str
    least: float
    most: float
    per: str | None = CYCLES


#: Far from what any CPU does. Caches and mispredictions have no lower bound: a
#: small loop may go without.
BOUNDS = (
    Bound(CYCLES, 2e7, 1e10, per=None),
    Bound("perf.ref_cpu_cycles", 2e7, 1e10, per=None),
    Bound("perf.bus_cycles", 1e5, 1e10, per=None),
    Bound("perf.instructions", 1e-3, 16),
    Bound("perf.branch_instructions", 1e-5, 8),
    Bound("perf.branch_misses", 0, 2),
    Bound("perf.cache_references", 0, 4),
    Bound("perf.cache_misses", 0, 4),
)


@dataclass(slots=True)
class _Life:
    """Of the counters of one ``since``: the last look at their growth."""

    since: datetime
    cpu: int
    counters: Counters
    #: A count that was missed is missing from all that follow.
    lying: dict[str, Judgement] = field(default_factory=dict)


class Plausibility:
    """Remembers instances from cycle to cycle. Not safe for threads."""

    def __init__(self, floor: float) -> None:
        """``floor``: the least CPU time to look at growth over, in ns."""
        self._floor = floor
        self._lives: dict[str, _Life] = {}

    def judged(self, uuid: str, answer: Answer) -> Answer:
        """The answer, without the counters that can't be right."""
        if answer.process is None:
            return answer
        life = self._life(uuid, answer, answer.process.cpu_ns)
        lying = life.lying.keys() & answer.trusted.keys()
        if not lying:
            return answer
        judged = dataclasses.replace(
            answer.judged,
            judgements={
                **answer.judged.judgements,
                **{key: life.lying[key] for key in lying},
            },
        )
        return dataclasses.replace(
            answer, judged=judged, trusted=judged.trusted(answer.counters)
        )

    def forget_all_but(self, uuids: Container[str]) -> None:
        """Forget instances that are gone from this host."""
        self._lives = {u: v for u, v in self._lives.items() if u in uuids}

    def _life(self, uuid: str, answer: Answer, cpu: int) -> _Life:
        life, counters = self._lives.get(uuid), answer.trusted
        if life is None or life.since != answer.judged.since:
            life = _Life(answer.judged.since, cpu, counters)
            self._lives[uuid] = life
        elif cpu - life.cpu >= self._floor:
            growth = {
                key: value - life.counters[key]
                for key, value in counters.items()
                if key in life.counters
            }
            life.lying.update(_lies(growth, (cpu - life.cpu) / 1e9))
            life.cpu, life.counters = cpu, counters
        return life


def _lies(
    growth: Mapping[str, int], seconds: float
) -> Iterator[tuple[str, Judgement]]:
    """The keys of what can't have grown like that in this CPU time."""
    for bound in BOUNDS:
        per = seconds if bound.per is None else growth.get(bound.per)
        if bound.key not in growth or not per:
            continue
        rate = growth[bound.key] / per
        if bound.least <= rate <= bound.most:
            continue
        name = bound.key.removeprefix("perf.")
        unit = "second of CPU time" if bound.per is None else "cycle"
        why = verdicts.implausible(f"{rate:.3g} {name} in a {unit}")
        if bound.key == CYCLES:
            yield from dict.fromkeys(HARDWARE_KEYS, why).items()
            return  # the PMU as a whole
        yield bound.key, why
