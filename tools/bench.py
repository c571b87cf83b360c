# SPDX-License-Identifier: Apache-2.0
"""What one polling cycle costs, next to core's pollsters and bare libvirt.

All variants run on one lab in one run, by turns, so that what else happens
on the machine hits them alike; figures are medians. Look at the ratios:
seconds differ from machine to machine.

raw        the bare bulk call for perf statistics, from Python
read       our reading of every counter, without Sample objects
ours       a whole cycle of all our pollsters, samples made
core_read  what core reads for its four perf meters, without Sample objects
core       a whole cycle of core's four perf pollsters, samples made
virsh      one 'virsh domstats --perf'

wall_s and cpu_s (user and system, the caller's) are seconds per cycle; calls
are libvirt's remote procedure calls per cycle, counted on the wire, discovery
left out. virsh opens a connection each time, and its calls include that.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import libvirt
from ceilometer import service
from ceilometer.compute import discovery
from ceilometer.compute.pollsters import GenericComputePollster
from ceilometer.compute.pollsters import instance_stats as core
from ceilometer.compute.virt import inspector
from oslo_config import cfg
from rich.console import Console
from rich.table import Table

from ceilometer_perf import pollsters
from ceilometer_perf.meters import METERS
from tests.lab import Guest, Lab
from tests.lab.errors import LabError
from tests.lab.rpc import CountingProxy

CORE_POLLSTERS = (
    core.PerfCPUCyclesPollster,
    core.PerfInstructionsPollster,
    core.PerfCacheReferencesPollster,
    core.PerfCacheMissesPollster,
)

progress = Console(stderr=True, highlight=False)


@dataclass
class Variant:
    """One way to read, and what each run of it took."""

    run: Callable[[], Any]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    calls: int = 0

    def measure(self) -> None:
        """Run once, against the clock."""
        cpu, wall = _cpu_seconds(), time.perf_counter()
        self.run()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(_cpu_seconds() - cpu)

    def result(self) -> dict[str, float]:
        """Medians, for the JSON."""
        return {
            "wall_s": statistics.median(self.wall),
            "cpu_s": statistics.median(self.cpu),
            "calls": self.calls,
        }


def _cpu_seconds() -> float:
    """This process's, and that of its children that have ended."""
    times = os.times()
    return sum(times[:4])


def main() -> int:
    """Measure and print."""
    arguments = _arguments()
    try:
        with (
            progress.status("Starting a private libvirtd") as status,
            Lab(fake_pmu=True) as lab,
        ):
            status.update(f"Starting {arguments.guests} paused guests")
            lab.start_all(
                [
                    Guest(f"paused-{n}", "paused")
                    for n in range(1, arguments.guests + 1)
                ]
            )
            status.update("Measuring")
            result = _bench(lab, arguments.guests, arguments.rounds)
            emulated = lab.emulates
    except LabError as exc:
        progress.print(f"bench.sh: {exc}", markup=False)
        return 2
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _print_table(result)
    for what in emulated:
        progress.print(f"Emulated: {what}", markup=False)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--guests", type=_positive, default=100, metavar="N",
        help="paused guests, 16 MiB each (default: 100)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=_positive, default=15, metavar="N",
        help="how often each variant runs (default: 15)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true",
                        help="JSON on stdout")  # fmt: skip
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number of at least 1"
        )
    return int(text)


def _bench(lab: Lab, guests: int, rounds: int) -> dict[str, Any]:
    variants = _variants(lab.uri_ro)
    for _ in range(rounds):
        for variant in variants.values():
            variant.measure()
    with CountingProxy(lab.run_dir / "libvirt-sock-ro") as proxy:
        for name, variant in _variants(proxy.uri).items():
            variant.run()  # opens the connection
            before = proxy.calls.total()
            variant.run()
            variants[name].calls = proxy.calls.total() - before
    result = {name: each.result() for name, each in variants.items()}

    def ratio(over: str, under: str) -> float:
        return result[over]["wall_s"] / result[under]["wall_s"]

    return {
        "guests": guests,
        "rounds": rounds,
        "samples": len(variants["ours"].run()),
        **result,
        "read_over_raw": ratio("read", "raw"),
        "core_read_over_read": ratio("core_read", "read"),
        "core_over_ours": ratio("core", "ours"),
    }


def _variants(uri: str) -> dict[str, Variant]:
    conf = service.prepare_service(["bench"], config_files=[])
    conf.set_override("libvirt_uri", uri)
    conf.set_override("debug", False)
    instances = discovery.InstanceDiscovery(conf).discover(None)
    ours = [getattr(pollsters, m.pollster)(conf) for m in METERS]
    # Core keeps one inspector per process, for the first URI that it saw.
    GenericComputePollster._inspector = inspector.get_hypervisor_inspector(
        conf
    )
    theirs = [pollster(conf) for pollster in CORE_POLLSTERS]
    raw = libvirt.openReadOnly(uri)
    return {
        "raw": Variant(
            lambda: raw.getAllDomainStats(
                libvirt.VIR_DOMAIN_STATS_PERF,
                libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
            )
        ),
        "read": Variant(ours[0]._source.read),
        "ours": Variant(lambda: _cycle(ours, instances)),
        "core_read": Variant(
            lambda: [
                theirs[0].inspector.inspect_instance(instance)
                for instance in instances
            ]
        ),
        "core": Variant(lambda: _cycle(theirs, instances)),
        "virsh": Variant(lambda: _virsh(uri)),
    }


def _cycle(pollsters: list[Any], instances: list[Any]) -> list[Any]:
    """One polling cycle, discovery left out."""
    cache: dict[str, Any] = {}
    return [
        sample
        for pollster in pollsters
        for sample in pollster.get_samples(None, cache, instances)
    ]


def _virsh(uri: str) -> None:
    subprocess.run(
        ["virsh", "-r", "-c", uri, "domstats", "--perf"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _print_table(result: dict[str, Any]) -> None:
    console = Console(highlight=False)
    table = Table("Variant", "Wall, ms", "CPU, ms", "libvirt calls")
    for name, value in result.items():
        if isinstance(value, dict):
            table.add_row(
                name,
                f"{value['wall_s'] * 1000:.2f}",
                f"{value['cpu_s'] * 1000:.2f}",
                str(value["calls"]),
            )
    console.print(table)
    for name in ("read_over_raw", "core_read_over_read", "core_over_ours"):
        console.print(f"{name}: {result[name]:.2f}")


if __name__ == "__main__":
    sys.exit(main())
