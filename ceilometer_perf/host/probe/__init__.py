# SPDX-License-Identifier: Apache-2.0
"""What this host can count, found by opening each event."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ceilometer_perf.events import EVENTS, Event
from ceilometer_perf.host.perf_event import Kernel
from ceilometer_perf.host.probe import (
    counters,
    counts,
    machine,
    rdt,
    trials,
    virt,
)
from ceilometer_perf.host.probe.counters import Counters
from ceilometer_perf.host.probe.machine import Machine
from ceilometer_perf.host.probe.trials import Asker, Trial
from ceilometer_perf.host.probe.virt import Virt

__all__ = ["Counters", "Event", "Machine", "Probed", "Trial", "Virt"]


@dataclass(frozen=True, slots=True)
class Probed:
    """All that was found, and whether it was root who asked."""

    machine: Machine
    virt: Virt
    is_root: bool
    trials: tuple[Trial, ...]
    counters: Counters
    #: Events that open, by name, and why libvirt should not open them.
    unfit: Mapping[str, str] = field(default_factory=dict)

    def rdt_sources(self) -> tuple[rdt.RdtSource, ...]:
        """Where L3 occupancy and memory bandwidth could come from."""
        return tuple(rdt.sources(self.machine, self.virt, self.trials))

    def safe(self) -> tuple[str, ...]:
        """The events that start with a guest here, and count right."""
        return tuple(
            trial.event.name
            for trial in self.trials
            if trial.works
            and trial.event.name not in self.unfit
            and not self.crowded_out(trial.event)
        )

    def crowded_out(self, event: Event) -> bool:
        """Whether an event that works finds no counter left for it."""
        return event.kind == "hardware" and event not in self.counters.together


def probe(
    libvirt: Virt,
    *,
    root: Path = Path("/"),
    perf: Kernel | None = None,
    is_root: bool | None = None,
) -> Probed:
    """Try every event; all but ``libvirt`` defaults to this host."""
    here = machine.read(root)
    perf = perf or Kernel()
    is_root = os.geteuid() == 0 if is_root is None else is_root
    asker = Asker(perf, here, is_root, libvirt.daemon or libvirt.library)
    found = tuple(trials.judge(event, asker) for event in EVENTS.values())
    unfit = _unfit(here, found, perf)
    room = counters.measure(
        [trial for trial in found if trial.event.name not in unfit], perf
    )
    return Probed(here, libvirt, is_root, found, room, unfit)


def _unfit(
    here: Machine, found: Sequence[Trial], perf: Kernel
) -> Mapping[str, str]:
    hardware = [
        trial.event
        for trial in found
        if trial.works and trial.event.kind == "hardware"
    ]
    why = here.why_no_hardware()
    if why is not None:
        return {event.name: why for event in hardware}
    return counts.lies(hardware, perf)


def cannot_work(names: Iterable[str]) -> list[Trial]:
    """Those of some events that a guest can't be started with here."""
    asker = Asker(Kernel(), machine.read(), os.geteuid() == 0)
    chosen = (EVENTS[name] for name in names if name in EVENTS)
    found = (trials.judge(event, asker) for event in chosen)
    return [trial for trial in found if trial.works is False]


def ask(uri: str) -> Probed:
    """Probe this host, with the libvirt behind ``uri``."""
    return probe(virt.ask(uri))
