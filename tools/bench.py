# SPDX-License-Identifier: Apache-2.0
"""What one polling cycle costs."""

import argparse
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
from ceilometer.compute import discovery
from ceilometer.compute.pollsters import util

from ceilometer_perf import options, privsep
from ceilometer_perf.agent import pollsters
from ceilometer_perf.agent.discovery import PerfInstances
from ceilometer_perf.counters.gated import Gated
from ceilometer_perf.counters.libvirt import PerfSource
from ceilometer_perf.counters.monitor import Monitor, Report
from ceilometer_perf.counters.own import Ask, Own, OwnPolicy
from ceilometer_perf.counters.trust import Policy
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.counting import Wanted, decoded
from ceilometer_perf.host.inventory import Domains, Inventory
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.host.stats import Failures
from ceilometer_perf.host.waits import Waits
from ceilometer_perf.meters import METERS, NEIGHBOURS, RDT, WAITING
from ceilometer_perf.neighbours.waiting import Waiting
from ceilometer_perf.reading import Counters
from tests.lab import EVENTS, Guest, Lab, LabError
from tools import bench_rdt, bench_realtime
from tools.polling import configured, core_pollsters, cycle, helper
from tools.progress import stderr, steps
from tools.usage import bench as usage
from tools.variants import Variant, measured, print_table, ratios

EVENT_SETS = {
    "all": EVENTS,
    "core": ("cpu_cycles", "instructions", "cache_references", "cache_misses"),
}
# The others are read apart; see bench_rdt.
PERF_METERS = [
    meter for meter in METERS if meter not in (*RDT, *WAITING, *NEIGHBOURS)
]

RATIOS = (
    ("read", "raw"),
    ("own", "raw"),
    ("core_read", "read"),
    ("core_make", "make"),
    ("core", "ours"),
    ("core_discovery", "discovery"),
    ("core_cycle", "cycle"),
)


@dataclass
class _Ready:
    """A monitor that has looked."""

    report: Report

    def look(self) -> Report:
        return self.report


@dataclass
class _Known(Inventory):
    """An inventory in the cycle in which discovery has just refreshed it."""

    known: Domains

    def domains(self) -> Domains:
        return self.known


class _WithoutEvents(PerfSource):
    """Of instances that have no events in their XML."""

    def _ask(
        self, session: Session, domains: list[Any]
    ) -> tuple[Mapping[str, Counters], Failures]:
        """As short a call."""
        stats = session.conn.domainListGetStats(
            domains,
            libvirt.VIR_DOMAIN_STATS_STATE,
            libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
        )
        return {domain.UUIDString(): {} for domain, _ in stats}, {}


class _AfterDiscovery:
    """What reads and judges, where discovery's part is done."""

    def __init__(self, conf: Any, ask: Ask) -> None:
        """``ask``: the helper."""
        settings = options.settings(conf)
        connection = Connection(conf.libvirt_uri, settings.libvirt_timeout)
        known = Inventory(connection, settings.inventory_interval).refresh()
        self.processes = Processes(Path(settings.qemu_run_dir))
        self.source = PerfSource(connection, _Known(known))
        self.libvirt = self._monitor(self.source, None)
        own = OwnPolicy(settings.own_events)
        self.own = self._monitor(
            _WithoutEvents(connection, _Known(known)),
            Own(ask, self.processes, Policy(), own),
        )

    def _monitor(self, source: PerfSource, own: Own | None) -> Monitor:
        gated = Gated(source, self.processes, Policy())
        return Monitor(gated, own, self.processes, Policy())


def _pollsters(conf: Any, monitor: Monitor | _Ready) -> list[Any]:
    """Ours, all of them, on this monitor."""
    made = [getattr(pollsters, meter.pollster)(conf) for meter in PERF_METERS]
    for pollster in made:
        pollster._parts = monitor
    return made


def main() -> int:
    """Measure and print."""
    arguments = usage.parser().parse_args()
    events = EVENT_SETS[arguments.events]
    try:
        if arguments.realtime:
            show = bench_realtime.print_table
            result, emulated = bench_realtime.measured(
                arguments.rounds, events
            )
        else:
            show = print_table
            result, emulated = _measured(arguments, events)
    except LabError as exc:
        stderr.print(f"bench.sh: {exc}", markup=False)
        return 2
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    for what in emulated:
        stderr.print(f"Emulated: {what}", markup=False)
    return 0


def _measured(
    arguments: argparse.Namespace, events: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The figures of many paused guests, and what the lab emulates."""
    number = arguments.guests
    hardware = bench_rdt.hardware(number) if arguments.rdt else None
    with steps() as step, Lab(fake_pmu=True, resctrl=hardware) as lab:
        guests = (
            bench_rdt.guests(number)
            if arguments.rdt
            else [
                Guest(
                    f"paused-{n}",
                    "paused",
                    vcpus=arguments.vcpus,
                    events=events,
                )
                for n in range(1, number + 1)
            ]
        )
        step(f"Starting {len(guests)} paused guests")
        lab.start_all(guests)
        step("Measuring")
        bench = bench_rdt.bench if arguments.rdt else _bench
        return bench(lab, number, arguments.rounds), lab.emulates


def _bench(lab: Lab, guests: int, rounds: int) -> dict[str, Any]:
    found = measured(lab, rounds, lambda uri: _variants(uri, lab))
    return {
        "guests": guests,
        "rounds": rounds,
        "samples": guests * len(PERF_METERS),
        "us_per_guest": found["processes"]["wall_s"] / guests * 1e6,
        **found,
        **ratios(found, RATIOS),
        "own_look_cpu_over_look_cpu": found["own_look"]["cpu_s"]
        / found["look"]["cpu_s"],
    }


def _own(lab: Lab, conf: Any, ask: Ask, processes: Processes) -> Variant:
    """Every instance by the helper."""
    events = options.settings(conf).own_events
    wanted = [
        Wanted(domain.name(), domain.UUIDString(), *process.identity, True)
        for domain in lab.connection.listAllDomains()
        if (process := processes.guest(domain.name(), domain.UUIDString()))
    ]

    def read() -> None:
        found = decoded(ask(wanted, events), len(events))
        wrong = {count.error for count in found} - {0}
        if wrong:
            raise LabError(f"not every guest could be counted: {wrong}")

    return Variant(read)


def _variants(uri: str, lab: Lab) -> dict[str, Variant]:
    conf = configured(lab, uri)
    discoverer = PerfInstances(conf)
    core_discoverer = discovery.InstanceDiscovery(conf)
    instances = core_discoverer.discover(None)
    agents = [getattr(pollsters, m.pollster)(conf) for m in PERF_METERS]
    count = privsep.Helper(helper(lab)).count
    known = _AfterDiscovery(conf, count)
    source, monitor, processes = known.source, known.libvirt, known.processes
    guests = source.read().guests
    waiting, report = Waiting(Waits(), processes), monitor.look()
    ours = _pollsters(conf, monitor)
    makers = _pollsters(conf, _Ready(monitor.look()))
    theirs = core_pollsters(conf)
    raw = libvirt.openReadOnly(uri)
    return {
        "raw": Variant(
            lambda: raw.getAllDomainStats(
                libvirt.VIR_DOMAIN_STATS_PERF,
                libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
            )
        ),
        "own": _own(lab, conf, count, processes),
        "read": Variant(source.read),
        "look": Variant(monitor.look),
        "own_look": Variant(known.own.look),
        "waiting": Variant(lambda: waiting.look(report)),
        "make": Variant(lambda: cycle(makers, instances)),
        "ours": Variant(lambda: cycle(ours, instances)),
        "core_read": Variant(
            lambda: [
                theirs[0].inspector.inspect_instance(instance)
                for instance in instances
            ]
        ),
        "core_make": Variant(
            lambda: [
                util.make_sample_from_instance(
                    conf,
                    instance,
                    name=meter.name,
                    type=meter.type,
                    unit=meter.unit,
                    volume=0,
                )
                for meter in PERF_METERS
                for instance in instances
            ]
        ),
        "core": Variant(lambda: cycle(theirs, instances)),
        "virsh": Variant(lambda: _virsh(uri)),
        "processes": Variant(
            lambda: [processes.guest(g.name, u) for u, g in guests.items()]
        ),
        "discovery": Variant(lambda: discoverer.discover(None)),
        "core_discovery": Variant(lambda: core_discoverer.discover(None)),
        "cycle": Variant(lambda: cycle(agents, discoverer.discover(None))),
        "core_cycle": Variant(
            lambda: cycle(theirs, core_discoverer.discover(None))
        ),
    }


def _virsh(uri: str) -> None:
    subprocess.run(
        ["virsh", "-r", "-c", uri, "domstats", "--perf"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
