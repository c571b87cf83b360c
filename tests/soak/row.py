# SPDX-License-Identifier: Apache-2.0
"""What a scenario comes to."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tests.functional.agent import Agent
from tests.lab import Lab
from tests.soak.measure import Seen, Spans, Usage, falls, lost, usage

AGENT = "the real agent, a cycle a second"
IN_PROCESS = "our discovery and pollsters in one process, without a pause"

MORE_RSS = 8 * 1024  # KiB: what an allocator may keep
MORE_THREADS = 2  # of libvirt's and of ours, those that come and go
MORE_DESCRIPTORS = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """One fault, and what it cost."""

    fault: str
    happened: str
    samples: int
    lost: int
    untrue: int
    before: Usage
    after: Usage
    how: str
    #: What is not as it must be.
    amiss: tuple[str, ...] = ()

    def leaks(self) -> tuple[str, ...]:
        """What there is more of than there may be."""
        return tuple(
            f"{what}: {before} before, {after} after"
            for what, before, after, more in (
                ("RSS, KiB", self.before.rss_kib, self.after.rss_kib,
                 MORE_RSS),
                ("threads", self.before.threads, self.after.threads,
                 MORE_THREADS),
                ("descriptors", self.before.descriptors,
                 self.after.descriptors, MORE_DESCRIPTORS),
            )
            if after > before + more
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """What a scenario is given: a lab, a folder for agents, a voice."""

    lab: Lab
    folder: Path
    step: Callable[[str], None]


def of_agent(
    agent: Agent,
    before: Usage,
    seen: list[Seen],
    *,
    fault: str,
    happened: str,
    untrue: list[str],
    amiss: list[str],
    off: Spans | None = None,
) -> Row:
    """The row of a scenario with the real agent, which still runs."""
    untrue = untrue + [
        f"{b.meter} fell from {a.volume} to {b.volume}" for a, b in falls(seen)
    ]
    row = Row(
        fault=fault,
        happened=happened,
        samples=len(seen),
        lost=lost(seen, off or {}),
        untrue=len(untrue),
        before=before,
        after=usage(agent.process.pid),
        how=AGENT,
    )
    problems = (*amiss, *agent.errors(), *untrue[:5], *row.leaks())
    return dataclasses.replace(row, amiss=problems)
