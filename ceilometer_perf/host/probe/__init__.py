# SPDX-License-Identifier: Apache-2.0
"""What this host can count, found by opening each event."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ceilometer_perf.events import EVENTS, Event
from ceilometer_perf.host.perf_event import Kernel
from ceilometer_perf.host.probe import counters, machine, rdt, verdicts, virt
from ceilometer_perf.host.probe.counters import Counters
from ceilometer_perf.host.probe.machine import Machine
from ceilometer_perf.host.probe.verdicts import Asker, Verdict
from ceilometer_perf.host.probe.virt import Virt

__all__ = ["Counters", "Event", "Machine", "Report", "Verdict", "Virt"]


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found, and whether it was root who asked."""

    machine: Machine
    virt: Virt
    is_root: bool
    verdicts: tuple[Verdict, ...]
    counters: Counters

    def rdt_sources(self) -> tuple[rdt.Source, ...]:
        """Where L3 occupancy and memory bandwidth could come from."""
        return tuple(rdt.sources(self.machine, self.virt, self.verdicts))

    def safe(self) -> tuple[str, ...]:
        """The events that start with a guest here, and count right."""
        return tuple(
            verdict.event.name
            for verdict in self.verdicts
            if verdict.works and not self.crowded_out(verdict.event)
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
) -> Report:
    """Try every event of libvirt's; all but ``libvirt`` defaults to here."""
    here = machine.read(root)
    perf = perf or Kernel()
    is_root = os.geteuid() == 0 if is_root is None else is_root
    asker = Asker(perf, here, is_root, libvirt.daemon or libvirt.library)
    found = tuple(verdicts.judge(event, asker) for event in EVENTS.values())
    return Report(here, libvirt, is_root, found, counters.measure(found, perf))


def cannot_work(names: Iterable[str]) -> list[Verdict]:
    """Those of some events that a guest can't be started with here."""
    asker = Asker(Kernel(), machine.read(), os.geteuid() == 0)
    chosen = (EVENTS[name] for name in names if name in EVENTS)
    found = (verdicts.judge(event, asker) for event in chosen)
    return [verdict for verdict in found if verdict.works is False]


def ask(uri: str) -> Report:
    """Probe this host, with the libvirt behind ``uri``."""
    return probe(virt.ask(uri))
