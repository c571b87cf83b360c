# SPDX-License-Identifier: Apache-2.0
"""No verdict from broken evidence, whatever breaks while one harms another."""

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.neighbours.history import NEEDED
from ceilometer_perf.neighbours.judge import (
    CYCLES,
    LEAST_BEFORE,
    LONGEST,
    Judge,
)
from tests.unit.test_neighbours import HARM, MINUTE, SIBLINGS, Host, usual

#: Each fault, and how many cycles must have been as usual since.
FAULTS = {
    "lost": 0,
    "gap": 0,
    "counters": LEAST_BEFORE,
    "agent": LEAST_BEFORE,
    "process": NEEDED + LEAST_BEFORE,
}


class Phase(NamedTuple):
    """So many cycles, the first of which is broken, if any is."""

    harm: str | None
    fault: str | None
    cycles: int


PHASES = st.lists(
    st.builds(
        Phase,
        st.sampled_from([None, *HARM]),
        st.sampled_from([None, None, *FAULTS]),
        st.integers(1, NEEDED // 2),
    ),
    max_size=20,
)


class Breaking(Host):
    """A host that lives through phases; ``since`` counts cycles by fault."""

    def __init__(self) -> None:
        super().__init__()
        self.since = dict.fromkeys(FAULTS, 0)
        self.phase(Phase(None, None, NEEDED + LEAST_BEFORE + 1))

    def phase(self, phase: Phase) -> None:
        process, counting = self.seen["v"].process, self.seen["v"].counting
        self.seen["v"], self.seen["c"] = usual(0), usual(4)
        if phase.harm is not None:
            HARM[phase.harm](self)
        self.set("v", process=process, counting=counting)
        for cycle in range(phase.cycles):
            self.cycle(phase.fault if cycle == 0 else None)

    def cycle(self, fault: str | None) -> None:
        seen = self.seen["v"]
        if fault == "counters":
            self.set("v", counting=object())
        elif fault == "process":
            self.set("v", process=(self.now, 1))
        elif fault == "agent":
            saved = json.loads(json.dumps(self.judge.saved()))
            self.judge = Judge(SIBLINGS)
            self.judge.restore(saved)
        elif fault == "lost":
            self.set("v", cpi=None, waited=None)
        self.cycles(after=LONGEST + 1 if fault == "gap" else MINUTE)
        if fault is not None:
            self.since[fault] = 0
        if fault == "lost":
            self.seen["v"] = seen
        else:
            self.since = {name: n + 1 for name, n in self.since.items()}
        self.check()

    def check(self) -> None:
        """What is said is of whole evidence, and enough of it."""
        for each in self.found.interferences:
            assert CYCLES <= each.cycles <= min(self.since.values())
            for fault, needed in FAULTS.items():
                assert self.since[fault] >= CYCLES + needed


@given(PHASES)
def test_no_verdict_from_broken_evidence(phases: list[Phase]) -> None:
    host = Breaking()
    for phase in phases:
        host.phase(phase)


@pytest.mark.parametrize("cause", HARM)
@pytest.mark.parametrize("fault", FAULTS)
def test_and_one_as_soon_as_there_is_enough(fault: str, cause: str) -> None:
    host = Breaking()
    host.phase(Phase(None, fault, FAULTS[fault] + 1))
    host.phase(Phase(cause, None, CYCLES))
    assert host.said == [("v", cause, "c")]


@pytest.mark.parametrize("cause", HARM)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_breaks_in_the_middle_ends_it(fault: str, cause: str) -> None:
    host = Breaking()
    host.phase(Phase(cause, None, CYCLES))
    assert host.said == [("v", cause, "c")]
    host.phase(Phase(cause, fault, CYCLES - 1))
    assert host.said == []
