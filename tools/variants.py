# SPDX-License-Identifier: Apache-2.0
"""Ways to do a thing, measured by turns in one run."""

import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.lab import Lab
from tests.lab.rpc import CountingProxy

LEAST_SECONDS = 0.05

Result = Mapping[str, Mapping[str, float]]
"""By variant: ``wall_s``, ``cpu_s`` and ``calls``."""


@dataclass
class Variant:
    """One way to read, and what each run of it took."""

    run: Callable[[], Any]
    in_a_row: int = 1
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    calls: int = 0

    def warm_up(self) -> None:
        """See how often it has to run to be measured."""
        started = time.perf_counter()
        self.run()
        taken = time.perf_counter() - started
        self.in_a_row = max(1, round(LEAST_SECONDS / taken))

    def measure(self) -> None:
        """Run against the clock."""
        cpu, wall = _cpu_seconds(), time.perf_counter()
        for _ in range(self.in_a_row):
            self.run()
        self.wall.append((time.perf_counter() - wall) / self.in_a_row)
        self.cpu.append((_cpu_seconds() - cpu) / self.in_a_row)

    def result(self) -> dict[str, float]:
        """Medians, for the JSON."""
        return {
            "wall_s": statistics.median(self.wall),
            "cpu_s": statistics.median(self.cpu),
            "calls": self.calls,
        }


def _cpu_seconds() -> float:
    """This process's, and that of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measured(
    lab: Lab, rounds: int, make: Callable[[str], Mapping[str, Variant]]
) -> Result:
    """Each variant so many times by turns; ``make`` takes libvirt's URI."""
    variants = make(lab.uri_ro)
    for variant in variants.values():
        variant.warm_up()
    for _ in range(rounds):
        for variant in variants.values():
            variant.measure()
    with CountingProxy(lab.run_dir / "libvirt-sock-ro") as proxy:
        for name, variant in make(proxy.uri).items():
            variant.run()  # opens the connection
            before = proxy.calls.total()
            variant.run()
            variants[name].calls = proxy.calls.total() - before
    return {name: each.result() for name, each in variants.items()}


def ratios(
    result: Result, pairs: Iterable[tuple[str, str]]
) -> Mapping[str, float]:
    """Of their wall times."""
    return {
        f"{over}_over_{under}": result[over]["wall_s"]
        / result[under]["wall_s"]
        for over, under in pairs
    }


def print_table(result: Mapping[str, Any]) -> None:
    """A line a variant, and below it the single figures."""
    console = Console(highlight=False)
    table = Table("Variant", "Wall, ms", "CPU, ms", "libvirt calls")
    for name, value in result.items():
        if isinstance(value, Mapping):
            table.add_row(
                name,
                f"{value['wall_s'] * 1000:.2f}",
                f"{value['cpu_s'] * 1000:.2f}",
                str(value["calls"]),
            )
    console.print(table)
    for name, value in result.items():
        if isinstance(value, float):
            console.print(f"{name}: {value:.2f}")
