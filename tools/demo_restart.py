# SPDX-License-Identifier: Apache-2.0
"""The demo's second part: libvirtd is killed, and the counters go on."""

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oslo_utils import timeutils
from rich import box
from rich.table import Table

from ceilometer_perf.host import processes
from tests.lab import Guest, Lab, LabError
from tools.agent import Samples
from tools.progress import Step

CLOCK = "perf.sw.task_clock"
PATIENCE = 90.0  # seconds

Sample = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """How fast an instance's time on a CPU grew, each in ns/s.

    ``libvirt`` is None of an instance without events in its XML.
    """

    name: str
    cpu: float
    libvirt: float | None
    published: float


@dataclass(frozen=True)
class _Seen:
    at: float
    cpu: int
    libvirt: int | None


def show(
    lab: Lab, busy: Guest, written: Samples, step: Step
) -> tuple[list[Row], list[Sample]]:
    """Kill libvirtd under a guest, and start one without events.

    What was seen, and the samples of it; neither if none came in time.
    """
    step("Killing libvirtd, and starting it again")
    lab.libvirtd.kill(signal.SIGKILL)
    lab.libvirtd.start()
    guests = [busy, lab.start(Guest("plain-0", "busy", events=()))]
    step("Polling what libvirt no longer counts")
    deadline = time.monotonic() + PATIENCE
    while any(len(_own(written, guest)) < 1 for guest in guests):
        if time.monotonic() > deadline:
            return [], []
        time.sleep(0.2)
    before = [_seen(lab, guest) for guest in guests]
    had = {guest.name: len(_own(written, guest)) for guest in guests}
    while any(len(_own(written, g)) < had[g.name] + 3 for g in guests):
        if time.monotonic() > deadline:
            return [], []
        time.sleep(0.2)
    rows = [
        _row(guest, was, _seen(lab, guest), _own(written, guest))
        for guest, was in zip(guests, before, strict=True)
    ]
    return rows, [s for guest in guests for s in _own(written, guest)]


def is_own(sample: Sample) -> bool:
    """Whether the helper counted it."""
    source: str = sample["resource_metadata"]["perf"]["source"]
    return source == "own"


def _own(written: Samples, guest: Guest) -> list[Sample]:
    """Samples of the guest's clock that the helper counted."""
    return [
        sample
        for sample in written.read()
        if sample["counter_name"] == CLOCK
        and sample["resource_id"] == guest.uuid
        and is_own(sample)
    ]


def _seen(lab: Lab, guest: Guest) -> _Seen:
    pid = lab.qemu_pid(guest)
    process = processes.read(Path("/proc"), pid)
    if process is None:
        raise LabError(f"{guest.name} has ended")
    ((_, stats),) = lab.connection.domainListGetStats([lab.domain(guest)])
    return _Seen(
        time.monotonic(), process.cpu_ns, stats.get("perf.task_clock")
    )


def _row(guest: Guest, was: _Seen, now: _Seen, samples: list[Sample]) -> Row:
    seconds = now.at - was.at
    first, last = samples[0], samples[-1]
    polled = timeutils.delta_seconds(
        *(timeutils.parse_isotime(s["timestamp"]) for s in (first, last))
    )
    grown = last["counter_volume"] - first["counter_volume"]
    return Row(
        name=guest.name,
        cpu=(now.cpu - was.cpu) / seconds,
        libvirt=None
        if now.libvirt is None or was.libvirt is None
        else (now.libvirt - was.libvirt) / seconds,
        published=grown / polled,
    )


def table(rows: list[Row]) -> Table:
    """For people."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title="libvirtd was killed and started again; time on a CPU in ns/s",
        title_justify="left",
    )
    table.add_column("Instance")
    for title in ("the kernel", "libvirt's task_clock", f"{CLOCK}, own"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            *(
                "no event in its XML" if value is None else f"{value:,.0f}"
                for value in (row.cpu, row.libvirt, row.published)
            ),
        )
    return table
