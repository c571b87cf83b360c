# SPDX-License-Identifier: Apache-2.0
"""Builds the objects that read and judge counters, and connects them.

All pollsters of a process share one set of them, and so one libvirt
connection for perf counters. Ceilometer's URIs are an argument, because only
``pollsters`` and ``discovery`` import Ceilometer.
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from oslo_config import cfg

from ceilometer_perf import options
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.gated import Gated
from ceilometer_perf.counters.libvirt import PerfSource
from ceilometer_perf.counters.monitor import Monitor, Report
from ceilometer_perf.counters.own import Ask, Own, OwnPolicy
from ceilometer_perf.counters.trust import Policy
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.host import daemon
from ceilometer_perf.host.caches import Caches
from ceilometer_perf.host.connection import Connection
from ceilometer_perf.host.counting import Counting
from ceilometer_perf.host.inventory import Inventory
from ceilometer_perf.host.monitors import Monitors
from ceilometer_perf.host.probe import machine
from ceilometer_perf.host.probe.machine import Machine
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.host.topology import Topology
from ceilometer_perf.host.waits import Waits
from ceilometer_perf.neighbours.kept import Kept
from ceilometer_perf.neighbours.look import NeighbourReport, Neighbours
from ceilometer_perf.neighbours.waiting import Waiting, WaitingReport
from ceilometer_perf.options import Settings
from ceilometer_perf.rdt.choice import Choice
from ceilometer_perf.rdt.groups import Groups
from ceilometer_perf.rdt.look import Rdt, RdtReport
from ceilometer_perf.rdt.usage import Origin
from ceilometer_perf.reading import SourceUnavailableError

if TYPE_CHECKING:  # see _helper
    from ceilometer_perf.privsep import Helper

Uris = Mapping[str, str]
"""libvirt's URIs by ``[DEFAULT] libvirt_type``."""

HINT = (
    f"; no perf samples until it answers (does {daemon.name()} run, are "
    "[DEFAULT] libvirt_uri and [perf] libvirt_timeout right?)"
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects for one libvirt URI and one set of options."""

    settings: Settings
    connection: Connection
    inventory: Inventory
    resctrl: Resctrl
    monitor: Monitor
    rdt: Rdt
    waiting: Waiting
    neighbours: Neighbours

    def look(self) -> Report:
        """Read and judge the perf counters, and derive from them."""
        return self.monitor.look()

    def look_at_rdt(self, report: Report) -> RdtReport:
        """Read what is not a perf counter, of the same instances."""
        return self.rdt.look(self._newest(report))

    def look_at_waiting(self, report: Report) -> WaitingReport:
        """Read for what these instances wait."""
        return self.waiting.look(self._newest(report))

    def look_at_neighbours(
        self, report: Report, rdt: RdtReport, waiting: WaitingReport
    ) -> NeighbourReport:
        """Judge who slows whom down."""
        return self.neighbours.look(self._newest(report), rdt, waiting)

    def _newest(self, report: Report) -> Report:
        """The report, or that of another polling source's later cycle.

        Who is not on an old one would be forgotten, and lose a resctrl group.
        """
        last = self.monitor.last
        return last if last.taken_at > report.taken_at else report


@dataclass(frozen=True)
class Misconfigured:
    """Replaces Parts if the options are wrong."""

    why: str

    def look(self) -> Report:
        """Fail, with what is wrong about the options.

        :raises SourceUnavailableError: always.
        """
        raise SourceUnavailableError(self.why)

    def look_at_rdt(self, report: Report) -> RdtReport:
        """An empty report: :meth:`look` has said what is wrong."""
        return RdtReport()

    def look_at_waiting(self, report: Report) -> WaitingReport:
        """As above."""
        return WaitingReport()

    def look_at_neighbours(
        self, report: Report, rdt: RdtReport, waiting: WaitingReport
    ) -> NeighbourReport:
        """As above."""
        return NeighbourReport()


def agent(conf: cfg.ConfigOpts, uris: Uris) -> Parts | Misconfigured:
    """The parts for the polling agent, which creates groups; never raises."""
    try:
        return parts(conf, uris, is_agent=True)
    except SourceUnavailableError as exc:
        return Misconfigured(str(exc))


def inventory(conf: cfg.ConfigOpts, uris: Uris) -> Inventory:
    """The domains of this host, as the agent sees them.

    :raises SourceUnavailableError: the options are wrong.
    """
    return parts(conf, uris, is_agent=True).inventory


def parts(
    conf: cfg.ConfigOpts, uris: Uris, *, is_agent: bool = False
) -> Parts:
    """The parts for these options; equal options get the same objects.

    ``is_agent``: have the privileged helper create resctrl groups for
    instances without one, and count events. If false, only existing groups
    are read, as the commands do, and only root counts.

    :raises SourceUnavailableError: the options are wrong.
    """
    uri = conf.libvirt_uri or uris.get(conf.libvirt_type, "qemu:///system")
    try:
        settings = options.settings(conf)
    except ValueError as exc:
        raise SourceUnavailableError(
            f"no perf samples until this is fixed: {exc}"
        ) from exc
    return _parts(uri, settings, is_agent)


@functools.cache
def _parts(uri: str, settings: Settings, is_agent: bool) -> Parts:
    connect = functools.partial(
        Connection, uri, settings.libvirt_timeout, hint=HINT
    )
    connection = connect()
    inventory = Inventory(connection, settings.inventory_interval)
    source = PerfSource(
        connection, inventory, realtime=settings.poll_realtime_guests
    )
    policy = Policy(
        min_coverage=settings.min_coverage,
        coverage_floor=settings.coverage_floor,
        withhold_in_doubt=settings.withhold_in_doubt,
        hardware_counters=settings.hardware_counters,
        withhold_multiplexed=settings.withhold_multiplexed,
        min_running=settings.min_running,
        is_hybrid=machine.read().is_hybrid,
    )
    processes = Processes(Path(settings.qemu_run_dir))
    resctrl = Resctrl(Path(settings.resctrl_path))
    choice = Choice(
        Monitors(connect),
        Groups(
            resctrl,
            processes,
            _helper(settings) if is_agent else None,
        ),
        processes,
        _only(settings.rdt_source),
    )
    return Parts(
        settings,
        connection,
        inventory,
        resctrl,
        Monitor(
            Gated(source, processes, policy),
            _own(settings, processes, policy, is_agent=is_agent),
            processes,
            policy,
        ),
        Rdt(choice, Caches(connection)),
        Waiting(Waits(), processes),
        Neighbours(
            Topology(),
            Kept(Path(settings.neighbours_file)) if is_agent else None,
        ),
    )


def _own(
    settings: Settings, processes: Processes, policy: Policy, *, is_agent: bool
) -> Own | None:
    if settings.counters == "libvirt":
        return None
    ask: Ask | None = None
    if is_agent:
        ask = _helper(settings).count
    elif os.geteuid() == 0:
        ask = Counting(Path(settings.qemu_run_dir)).read
    own = OwnPolicy(
        settings.own_events,
        always=settings.counters == "own",
        no_hardware=_no_hardware(machine.read()),
    )
    return Own(ask, processes, policy, own)


def _no_hardware(host: Machine) -> Judgement | None:
    """Why own hardware events would count wrong, or do harm."""
    if host.mediated_pmu:
        return verdicts.MEDIATED
    return verdicts.HYBRID if host.is_hybrid else None


def _helper(settings: Settings) -> "Helper":
    # Not imported at the top: oslo.privsep imports eventlet, whose
    # deprecation warning every command would print.
    from ceilometer_perf.privsep import Helper

    return Helper(settings.privsep_helper)


def _only(rdt_source: str) -> Origin | None:
    return None if rdt_source == "auto" else cast("Origin", rdt_source)
