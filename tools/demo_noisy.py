# SPDX-License-Identifier: Apache-2.0
"""The demo's third part, if asked for: one guest takes another one's CPU."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from ceilometer_perf.cli.neighbours import below
from ceilometer_perf.meters import NEIGHBOURS, VICTIM
from ceilometer_perf.neighbours import kept
from ceilometer_perf.neighbours.history import NEEDED
from ceilometer_perf.neighbours.judge import LEAST_BEFORE
from tests.lab import Guest, Lab
from tests.lab.pinning import GREED, pin
from tools.agent import Samples
from tools.progress import Step

PATIENCE = 90.0  # seconds beyond the cycles' own time

Sample = dict[str, Any]


def show(
    lab: Lab, busy: Guest, written: Samples, interval: int, step: Step
) -> tuple[str, list[Sample]]:
    """Who slows whom down and why, in one line, and the samples that say so.

    Neither if the agent has not found it in time.
    """
    cpu = min(os.sched_getaffinity(0))
    pin(lab.qemu_pid(busy), cpu)
    step(f"Learning what is usual, in {NEEDED} cycles and more")
    deadline = time.monotonic() + 2 * NEEDED * interval + PATIENCE
    if not _came(lambda: len(_of(written, busy)) >= LEAST_BEFORE, deadline):
        return "", []
    noisy = lab.start(Guest("noisy-0", "spin", events=()))
    pin(lab.qemu_pid(noisy), cpu, GREED)
    step("Taking a guest's CPU, and waiting for the verdict")
    deadline = time.monotonic() + 10 * interval + PATIENCE
    if not _came(lambda: any(_harmful(_of(written, busy))), deadline):
        return "", []
    told = kept.said(lab.folder / "neighbours.json")
    names = {**told.names} | {each.uuid: each.name for each in (busy, noisy)}
    line = next(iter(below(dataclasses.replace(told, names=names))), "")
    meters = {meter.name for meter in NEIGHBOURS}
    said = (s for s in written.read() if s["counter_name"] in meters)
    return f"A noisy neighbour: {line}\n", list(_harmful(said))


def _came(condition: Callable[[], bool], deadline: float) -> bool:
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _of(written: Samples, guest: Guest) -> list[Sample]:
    """Each cycle in which it was judged."""
    return [
        sample
        for sample in written.read()
        if sample["counter_name"] == VICTIM.name
        and sample["resource_id"] == guest.uuid
    ]


def _harmful(samples: Iterable[Sample]) -> Iterable[Sample]:
    return (sample for sample in samples if sample["counter_volume"])
