# SPDX-License-Identifier: Apache-2.0
"""Hosts to probe: trees of /proc and /sys, and kernels that go with them."""

import errno
import os
import pathlib
from collections.abc import Mapping, Sequence

from ceilometer_perf.events import EVENTS
from ceilometer_perf.host.perf_event import Growth, Kernel, Pair
from ceilometer_perf.host.probe import Probed, probe
from ceilometer_perf.host.probe.virt import Virt, caches

HOSTS = pathlib.Path(__file__).with_name("hosts")

HARDWARE = tuple(e.name for e in EVENTS.values() if e.kind == "hardware")
SOFTWARE = tuple(e.name for e in EVENTS.values() if e.kind == "software")
ON_ITS_OWN = "stalled_cycles_backend"
SECOND = 1_000_000_000  # ns
CQM_TYPE = 9  # in the tree of the host "cqm"


class FakeKernel(Kernel):
    """Has some types of events, refuses others, has so many counters."""

    def __init__(
        self,
        types: tuple[int, ...] = (0, 1),
        *,
        missing: tuple[str, ...] = (),
        code: int = errno.ENOENT,
        counters: int = 4,
        forbids: int = 0,
        forbids_all: int = 0,
        counts: Mapping[str, int] | None = None,
        running: int = SECOND,
    ) -> None:
        self.types = types
        self.missing = {(0, EVENTS[name].config) for name in missing}
        self.code = code
        self.counters = counters
        self.forbids = forbids
        self.forbids_all = forbids_all
        usual = dict.fromkeys(HARDWARE, SECOND)
        self.counts = {
            EVENTS[name].config: count
            for name, count in {**usual, **(counts or {})}.items()
        }
        self.running = running

    def try_open(self, event: Pair, *, user_only: bool = False) -> None:
        code = self.forbids_all or (not user_only and self.forbids)
        if not code and (event[0] not in self.types or event in self.missing):
            code = self.code
        if code:
            raise OSError(code, os.strerror(code))

    def count(self, event: Pair, *, user_only: bool = False) -> Growth:
        self.try_open(event, user_only=user_only)
        return Growth(self.counts[event[1]], SECOND, self.running)

    def share(self, events: Sequence[Pair]) -> float:
        for event in events:
            self.try_open(event)
        # One event has a counter that nothing else can use.
        own = (0, EVENTS[ON_ITS_OWN].config)
        general = [event for event in events if event != own]
        return min(1.0, self.counters / len(general)) if general else 1.0


def virt(host: str, version: tuple[int, int, int] = (9, 0, 0)) -> Virt:
    path = HOSTS / host / "capabilities.xml"
    if not path.exists():
        return Virt("qemu:///system", version, error="no libvirtd")
    l3, monitors = caches(path.read_text())
    return Virt("qemu:///system", version, version, l3, monitors)


def probed(
    host: str,
    kernel: FakeKernel,
    *,
    is_root: bool = True,
    version: tuple[int, int, int] = (9, 0, 0),
) -> Probed:
    return probe(
        virt(host, version), root=HOSTS / host, perf=kernel, is_root=is_root
    )
