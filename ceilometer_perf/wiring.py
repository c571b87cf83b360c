# SPDX-License-Identifier: Apache-2.0
"""Who is connected to whom: one libvirt connection for all of a process.

Knows the options, the host and the sources; Ceilometer's own URIs are handed
in by those who may know Ceilometer.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg

from ceilometer_perf import options
from ceilometer_perf.host.connection import Connection
from ceilometer_perf.host.inventory import Inventory
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.monitor import Monitor, Report
from ceilometer_perf.options import Settings
from ceilometer_perf.reading import SourceUnavailableError
from ceilometer_perf.sources.perf import PerfSource
from ceilometer_perf.trust import Policy

Uris = Mapping[str, str]
"""libvirt's URIs by ``[DEFAULT] libvirt_type``."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What one libvirt and one set of options come to."""

    settings: Settings
    connection: Connection
    inventory: Inventory
    monitor: Monitor


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """Stands where the monitor would, and tells why it can't be."""

    why: str

    def look(self) -> Report:
        """Raise the reason."""
        raise SourceUnavailableError(self.why)


def monitor(conf: cfg.ConfigOpts, uris: Uris) -> Monitor | Misconfigured:
    """What looks at the instances; never raises."""
    try:
        return parts(conf, uris).monitor
    except SourceUnavailableError as exc:
        return Misconfigured(str(exc))


def inventory(conf: cfg.ConfigOpts, uris: Uris) -> Inventory:
    """The domains of this host.

    :raises SourceUnavailableError: the options are wrong.
    """
    return parts(conf, uris).inventory


def parts(conf: cfg.ConfigOpts, uris: Uris) -> Parts:
    """All of them, the same for the same options.

    :raises SourceUnavailableError: the options are wrong.
    """
    uri = conf.libvirt_uri or uris.get(conf.libvirt_type, "qemu:///system")
    try:
        settings = options.settings(conf)
    except ValueError as exc:
        raise SourceUnavailableError(
            f"no perf samples until this is mended: {exc}"
        ) from exc
    return _parts(uri, settings)


@functools.cache
def _parts(uri: str, settings: Settings) -> Parts:
    connection = Connection(uri, settings.libvirt_timeout)
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
    )
    processes = Processes(Path(settings.qemu_run_dir))
    watch = Monitor(source, processes, policy)
    return Parts(settings, connection, inventory, watch)
