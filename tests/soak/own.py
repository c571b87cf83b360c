# SPDX-License-Identifier: Apache-2.0
"""Instances without events in their XML, which our helper counts."""

import contextlib
from pathlib import Path

from tests.functional.agent import Agent, wait_for
from tests.functional.helper import (
    COUNTING,
    counters_open,
    counting,
    helpers,
)
from tests.lab import Guest
from tests.soak.measure import Spool, Truth, usage
from tests.soak.row import Row, Run, of_agent

METERS = ("perf.hw.*", "perf.sw.*", "perf.coverage")
SOFT_LIMIT = 256  # descriptors that the helper may have at first
#: Events that an allocator may keep in part-filled pages, and others open.
SLACK = 2000


def lifecycles(run: Run, lives: int, at_once: int) -> Row:
    """So many instances that start, are counted, and end."""
    lab = run.lab
    staying = lab.start(Guest("staying", "busy", events=()))
    truth = Truth(lab, [staying])
    with _agent(run) as agent, truth.watching():
        spool = Spool(agent)
        spool.wait(0, 3)
        helper = _helper(run)
        before, base = usage(agent.process.pid), usage(helper, family=False)
        events, slab = counters_open(helper), _slab()
        most = 0
        for done in range(0, lives, at_once):
            run.step(f"Counting instances that come and go: {done} of {lives}")
            guests = [
                Guest(f"lived-{done + n}", "paused", events=())
                for n in range(at_once)
            ]
            lab.start_all(guests)
            for guest in guests:
                spool.wait(0, instance=guest.uuid)
            most = max(most, counters_open(helper))
            for guest in guests:
                lab.remove(guest)
            wait_for(
                lambda: counters_open(helper) == events,
                20,
                "only the staying instance's counters are open",
            )
        run.step("Looking at what is left")
        with contextlib.suppress(AssertionError):  # it is said below
            wait_for(lambda: _slab() <= slab + SLACK, 30, "the kernel's")
        after, left = usage(helper, family=False), _slab()
        seen = spool.seen()
        sinces = {s.since for s in seen if s.instance == staying.uuid}
        return of_agent(
            agent,
            before,
            seen,
            fault=f"{lives} instances came and went, {at_once} at a time",
            happened=f"the helper: {most} events at most, {events} before "
            f"and {counters_open(helper)} after; {base.descriptors} → "
            f"{after.descriptors} descriptors, {base.rss_kib} → "
            f"{after.rss_kib} KiB RSS; the kernel's perf_event slab: "
            f"{slab} → {left} objects",
            untrue=truth.untrue(seen),
            amiss=[
                *_more("descriptors", base.descriptors, after.descriptors, 0),
                *_more("KiB", base.rss_kib, after.rss_kib, 8 * 1024),
                *_more("events in the kernel", slab, left, SLACK),
                *(f"since: {sinces}" for _ in sinces if len(sinces) > 1),
                *(["the helper is another"] * (helper != _helper(run))),
            ],
        )


def many(run: Run, guests: int) -> Row:
    """So many at once, with few descriptors allowed at first."""
    lab = run.lab
    everybody = [
        Guest(f"paused-{n}", "paused", events=()) for n in range(guests)
    ]
    run.step(f"Starting {guests} guests")
    lab.start_all(everybody)
    with _agent(run, within=f"prlimit --nofile={SOFT_LIMIT}: env") as agent:
        spool = Spool(agent)
        run.step("Counting all of them")
        for guest in everybody:
            spool.wait(0, 3, instance=guest.uuid)
        helper = _helper(run)
        before = usage(agent.process.pid)
        events = counters_open(helper)
        rss = usage(helper, family=False).rss_kib
        return of_agent(
            agent,
            before,
            spool.seen(),
            fault=f"none: {guests} instances at once, of a helper that may "
            f"have {SOFT_LIMIT} descriptors until it raises that",
            happened=f"{events} events open in the helper, of "
            f"{rss / 1024:.0f} MiB RSS",
            untrue=[],
            amiss=[f"only {events} events"] * (events <= SOFT_LIMIT),
        )


def _agent(run: Run, *, within: str = "env") -> Agent:
    perf = counting(run.lab, run.folder, within=within)
    return Agent(run.folder, run.lab, meters=METERS, perf=perf)


def _helper(run: Run) -> int:
    (helper,) = helpers(run.folder, COUNTING)
    return helper


def _slab() -> int:
    """Events that the kernel has allocated; 0 where it does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/slabinfo").read_text().splitlines():
            name, active, *_ = line.split()
            if name == "perf_event":
                return int(active)
    return 0


def _more(what: str, before: int, after: int, slack: int) -> list[str]:
    if after <= before + slack:
        return []
    return [f"the helper: {before} {what} before, {after} after"]
