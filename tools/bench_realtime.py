# SPDX-License-Identifier: Apache-2.0
"""What polling does to the CPU of a realtime vCPU."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ceilometer.compute import discovery
from rich.console import Console
from rich.table import Table

from ceilometer_perf import cpus
from ceilometer_perf.agent import pollsters
from ceilometer_perf.agent.discovery import PerfInstances
from ceilometer_perf.host.threads import VCPU
from ceilometer_perf.meters import METERS
from tests import interrupts
from tests.lab import Guest, Lab, LabError
from tests.lab.requirements import find
from tools.polling import configured, core_pollsters, cycle, helper
from tools.progress import steps

Cycle = Callable[[], object]

PRIORITY = 95  # above any vCPU's
INTERVAL = 500  # µs between two of the probe's wake-ups
SPIN = 0.02  # seconds: a cycle of nobody's
LONGEST = 10_000  # µs: later ones count as this late
SECONDS = 2  # of each measurement
ROWS = {
    "per_second": "a second",
    "per_cycle": "a cycle",
    "latency_us": "µs late",
}


@dataclass(frozen=True)
class Counts:
    """What happened on the CPU."""

    function_calls: float
    rescheduling: float
    vcpu_switches: float

    @classmethod
    def now(cls, cpu: int, vcpu: Path) -> Self:
        """Since ever; ``vcpu``: the folder of its thread in /proc."""
        seen = interrupts.of(cpu)
        return cls(
            seen.get(interrupts.FUNCTION_CALLS, 0),
            seen.get(interrupts.RESCHEDULING, 0),
            switches((vcpu / "status").read_text()),
        )

    def since(self, before: Self, per: float) -> Self:
        """The difference, divided."""
        pairs = zip(
            asdict(self).values(), asdict(before).values(), strict=True
        )
        return type(self)(*((now - then) / per for now, then in pairs))


def switches(status: str) -> int:
    """How often a thread left its CPU, as /proc/PID/task/TID/status has it."""
    return sum(
        int(line.split()[1])
        for line in status.splitlines()
        if "ctxt_switches" in line
    )


@dataclass
class Found:
    """What a variant did to the CPU, round by round."""

    counts: list[Counts] = field(default_factory=list)
    #: Polling cycles per second, while counting.
    cycles: list[float] = field(default_factory=list)
    #: By µs, how often the probe woke up so late.
    late: Counter[int] = field(default_factory=Counter)
    latest: int = 0

    def add_latency(self, told: Mapping[str, Any]) -> None:
        """``told``: cyclictest's JSON."""
        for thread in told["thread"].values():
            histogram = {int(k): n for k, n in thread["histogram"].items()}
            beyond = thread["cycles"] - sum(histogram.values())
            self.late.update({**histogram, LONGEST: beyond})
            self.latest = max(self.latest, thread["max"])

    def per_second(self) -> Counts:
        """Medians of the rounds."""
        rows = zip(*(asdict(c).values() for c in self.counts), strict=True)
        return Counts(*map(statistics.median, rows))

    def figures(self, off: Self) -> dict[str, Any]:
        """For the JSON; ``off``: what there is without polling."""
        rate, own = statistics.median(self.cycles), self.per_second()
        return {
            "cycles_per_second": rate,
            "per_second": asdict(own),
            "per_cycle": asdict(own.since(off.per_second(), rate)),
            "latency_us": {
                "median": percentile(self.late, 0.5),
                "p99": percentile(self.late, 0.99),
                "p99.9": percentile(self.late, 0.999),
                "max": self.latest,
            },
        }


def percentile(counts: Mapping[int, int], share: float) -> int:
    """The least value that so many don't exceed; 0 of nothing."""
    left = share * sum(counts.values())
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return 0


def measured(
    rounds: int, events: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The figures, and what the lab emulates; each variant has many turns.

    :raises LabError: this machine can't do that.
    """
    *others, cpu = sorted(os.sched_getaffinity(0))
    if not others:
        raise LabError("--realtime needs two CPUs, one of them for the vCPU")
    probe = find("cyclictest", "rt-tests")
    # What this process starts stays there, too.
    os.sched_setaffinity(0, others)
    with steps() as step, Lab(fake_pmu=True) as lab:
        step("Starting the guests")
        vcpu = _start(lab, others, cpu, events)
        variants = _variants(lab)
        for name, poll in variants.items():  # which opens what it needs
            if not poll() and name != "off":
                raise LabError(f"{name}: polled, and published nothing")
        found = {name: Found() for name in variants}
        for number in range(1, rounds + 1):
            step(f"Measuring: round {number} of {rounds}")
            for name, poll in variants.items():
                _count(found[name], poll, cpu, vcpu)
                _probe(found[name], poll, cpu, probe)
        about = {
            "cpu": cpu,
            "virt": lab.virt,
            "events": len(events),
            "rounds": rounds,
            "load": os.getloadavg()[0],
        }
        off = found["off"]
        figures = {name: each.figures(off) for name, each in found.items()}
        return {**about, **figures}, lab.emulates


def _start(
    lab: Lab, others: Sequence[int], cpu: int, events: tuple[str, ...]
) -> Path:
    """A realtime guest on a CPU, a usual one on the others: the vCPU."""
    elsewhere = cpus.text(others)
    placed = f"<vcpu cpuset='{elsewhere}'>1</vcpu>"
    tuned = (
        f"<cputune><vcpupin vcpu='0' cpuset='{cpu}'/>"
        f"<emulatorpin cpuset='{elsewhere}'/>"
        "<vcpusched vcpus='0' scheduler='fifo' priority='1'/></cputune>"
    )
    lab.start(Guest("usual", "busy", events=events, extra=(placed,)))
    guest = lab.start(
        Guest("realtime", "spin", events=events, extra=(placed, tuned))
    )
    tasks = Path(f"/proc/{lab.qemu_pid(guest)}/task").iterdir()
    (vcpu,) = (
        task
        for task in tasks
        if VCPU.fullmatch((task / "comm").read_text().strip())
    )
    return vcpu


def _variants(lab: Lab) -> dict[str, Cycle]:
    conf = configured(lab, lab.uri_ro)
    conf.set_override("privsep_helper", helper(lab), group="perf")
    kept = f"{lab.folder}/neighbours.json"
    conf.set_override("neighbours_file", kept, group="perf")
    ours = [getattr(pollsters, meter.pollster)(conf) for meter in METERS]
    discoverer = PerfInstances(conf)
    theirs = core_pollsters(conf)
    core_discoverer = discovery.InstanceDiscovery(conf)
    return {
        "off": _spin,
        "ours": lambda: cycle(ours, discoverer.discover(None)),
        "core": lambda: cycle(theirs, core_discoverer.discover(None)),
    }


def _spin() -> None:
    """Keep the other CPUs as busy, so that others come to the vCPU's alike."""
    until = time.monotonic() + SPIN
    while time.monotonic() < until:
        pass


def _count(found: Found, poll: Cycle, cpu: int, vcpu: Path) -> None:
    """What happens on the CPU without a probe."""
    before, began = Counts.now(cpu, vcpu), time.monotonic()
    cycles = _until(lambda: time.monotonic() >= began + SECONDS, poll)
    after, took = Counts.now(cpu, vcpu), time.monotonic() - began
    found.counts.append(after.since(before, took))
    found.cycles.append(cycles / took)


def _probe(found: Found, poll: Cycle, cpu: int, probe: str) -> None:
    """How late a thread wakes up on the CPU."""
    with tempfile.NamedTemporaryFile() as told:
        command = [
            probe, "--quiet", "--mlockall", "--threads=1",
            f"--affinity={cpu}", f"--priority={PRIORITY}",
            f"--interval={INTERVAL}", f"--loops={SECONDS * 10**6 // INTERVAL}",
            f"--histogram={LONGEST}", f"--json={told.name}",
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        ) as running:  # fmt: skip
            _until(lambda: running.poll() is not None, poll)
            _, said = running.communicate()
        if running.returncode:
            raise LabError(f"cyclictest failed: {said.strip()}")
        found.add_latency(json.loads(Path(told.name).read_text()))


def _until(ends: Callable[[], bool], poll: Cycle) -> int:
    """How many polling cycles there were."""
    cycles = 0
    while not ends():
        poll()
        cycles += 1
    return cycles


def print_table(result: Mapping[str, Any]) -> None:
    """A row for each figure, and below it what they are of."""
    variants = [k for k, v in result.items() if isinstance(v, Mapping)]
    table = Table("", *variants)
    for group, unit in ROWS.items():
        for name in result["off"][group]:
            table.add_row(
                f"{name.replace('_', ' ')}, {unit}",
                *(f"{result[each][group][name]:.2f}" for each in variants),
            )
    console = Console(highlight=False)
    console.print(table)
    for name, value in result.items():
        if name not in variants:
            console.print(f"{name}: {value}")
