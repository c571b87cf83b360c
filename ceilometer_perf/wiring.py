# SPDX-License-Identifier: Apache-2.0
"""Who is connected to whom: one libvirt connection for all of a process.

Knows the options, the host and the sources; Ceilometer's own URIs are handed
in by those who may know Ceilometer.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from oslo_config import cfg

from ceilometer_perf import options
from ceilometer_perf.host.connection import Connection
from ceilometer_perf.host.inventory import Inventory
from ceilometer_perf.reading import SourceUnavailableError
from ceilometer_perf.sources import Source, Unavailable
from ceilometer_perf.sources.perf import PerfSource

Uris = Mapping[str, str]
"""libvirt's URIs by ``[DEFAULT] libvirt_type``."""


@dataclass(frozen=True, slots=True)
class _Parts:
    inventory: Inventory
    source: Source


def source(conf: cfg.ConfigOpts, uris: Uris) -> Source:
    """The source of all counters; says why if the options are wrong."""
    try:
        return _parts_of(conf, uris).source
    except SourceUnavailableError as exc:
        return Unavailable(str(exc))


def inventory(conf: cfg.ConfigOpts, uris: Uris) -> Inventory:
    """The domains of this host.

    :raises SourceUnavailableError: the options are wrong.
    """
    return _parts_of(conf, uris).inventory


def _parts_of(conf: cfg.ConfigOpts, uris: Uris) -> _Parts:
    options.register(conf)
    uri = conf.libvirt_uri or uris.get(conf.libvirt_type, "qemu:///system")
    try:
        timeout = options.get(conf, "libvirt_timeout")
        interval = options.get(conf, "inventory_interval")
    except ValueError as exc:
        raise SourceUnavailableError(
            f"no perf samples until this is mended: {exc}"
        ) from exc
    return _parts(uri, timeout, interval)


@functools.cache
def _parts(uri: str, timeout: float, interval: float) -> _Parts:
    connection = Connection(uri, timeout)
    return _Parts(Inventory(connection, interval), PerfSource(connection))
