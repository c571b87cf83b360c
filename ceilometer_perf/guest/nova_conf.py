# SPDX-License-Identifier: Apache-2.0
"""The options of nova.conf that shape a guest's XML, or its host, here.

Names, groups, types and defaults are those of ``nova.conf.libvirt`` and
``nova.conf.compute``, so that an operator's files are read as Nova reads them.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from oslo_config import cfg

from ceilometer_perf import cpus
from ceilometer_perf.guest import cpu_sets, errors
from ceilometer_perf.guest.nova_files import NovaFiles

LIBVIRT_OPTS = [
    cfg.ListOpt("enabled_perf_events", default=[]),
    # The limits are SCHED_FIFO's; Nova takes any number, and libvirt then
    # starts no such guest.
    cfg.IntOpt("realtime_scheduler_priority", default=1, min=1, max=99),
    cfg.BoolOpt("cpu_power_management", default=False),
    cfg.StrOpt(
        "cpu_power_management_strategy",
        choices=["cpu_state", "governor"],
        default="cpu_state",
    ),
]
PCI_OPTS = [
    cfg.MultiStrOpt(
        "device_spec", default=[], deprecated_name="passthrough_whitelist"
    ),
]
COMPUTE_OPTS = [
    cfg.StrOpt("cpu_dedicated_set"),
    cfg.StrOpt("cpu_shared_set"),
]


@dataclasses.dataclass(frozen=True)
class NovaConf:
    """What one compute host's nova.conf says; None for a set left unset."""

    perf_events: tuple[str, ...] = ()
    realtime_priority: int = 1
    dedicated_cpus: frozenset[int] | None = None
    shared_cpus: frozenset[int] | None = None
    #: How Nova saves power of dedicated CPUs without a guest; None: not.
    power_management: str | None = None
    #: As they are written: which devices any instance may get.
    pci_device_specs: tuple[str, ...] = ()


def read(where: NovaFiles) -> NovaConf:
    """Read these; everything else in the files is ignored."""
    with opened(
        where,
        {
            "libvirt": LIBVIRT_OPTS,
            "compute": COMPUTE_OPTS,
            "pci": PCI_OPTS,
        },
    ) as conf:
        return of(conf)


@contextlib.contextmanager
def opened(
    where: NovaFiles, opts: Mapping[str, Sequence[cfg.Opt]]
) -> Iterator[cfg.ConfigOpts]:
    """Nova's options of some groups, for as long as they are read.

    What is wrong with a file or a value becomes a NovaRefusal.
    """
    conf = cfg.ConfigOpts()
    for group, options in opts.items():
        conf.register_opts(options, group=group)
    paths = where.paths()
    unset = [(group, o.dest) for group in opts for o in opts[group]]
    for path in reversed(paths):
        # Each by itself: a bad line or value is in the last one that sets it.
        with where.only(path).refusing():
            _load(conf, [path])
            unset = [each for each in unset if not _is_set(conf, *each)]
    with where.refusing():
        _load(conf, paths)
        yield conf


def _load(conf: cfg.ConfigOpts, paths: Sequence[Path]) -> None:
    # The environment of this process says nothing about nova-compute's.
    conf(
        [],
        default_config_files=[*map(str, paths)],
        default_config_dirs=[],
        use_env=False,
    )


def _is_set(conf: cfg.ConfigOpts, group: str, option: str) -> bool:
    found = conf.get_location(option, group=group)
    return found is not None and found.location is cfg.Locations.user


def of(conf: cfg.ConfigOpts) -> NovaConf:
    """What has been loaded; refuse what nova-compute refuses at its start."""
    dedicated = _cpu_set("cpu_dedicated_set", conf.compute.cpu_dedicated_set)
    shared = _cpu_set("cpu_shared_set", conf.compute.cpu_shared_set)
    both = (dedicated or frozenset()) & (shared or frozenset())
    if both:
        raise errors.NovaRefusal(
            "InvalidConfiguration",
            "[compute] cpu_dedicated_set and cpu_shared_set both contain "
            f"CPU {cpus.text(both)}: remove it from one of them",
        )
    return NovaConf(
        perf_events=tuple(conf.libvirt.enabled_perf_events),
        realtime_priority=conf.libvirt.realtime_scheduler_priority,
        dedicated_cpus=dedicated,
        shared_cpus=shared,
        power_management=conf.libvirt.cpu_power_management_strategy
        if conf.libvirt.cpu_power_management
        else None,
        pci_device_specs=tuple(conf.pci.device_spec),
    )


def _cpu_set(option: str, value: str | None) -> frozenset[int] | None:
    """``get_cpu_shared_set`` and ``get_cpu_dedicated_set``."""
    if not value:
        return None
    chosen = cpu_sets.parse(value)
    if not chosen:
        raise errors.NovaRefusal(
            "Invalid",
            f"[compute] {option} = {value} contains no CPU: add one or "
            "unset it",
        )
    return chosen
