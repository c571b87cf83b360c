# SPDX-License-Identifier: Apache-2.0
"""The four options of nova.conf that shape a guest's XML here.

Names, groups, types and defaults are those of ``nova.conf.libvirt`` and
``nova.conf.compute``, so that an operator's file is read as Nova reads it.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from oslo_config import cfg

from ceilometer_perf import files
from ceilometer_perf.guest import cpus, errors

LIBVIRT_OPTS = [
    cfg.ListOpt("enabled_perf_events", default=[]),
    # The limits are SCHED_FIFO's; Nova takes any number, and libvirt then
    # starts no such guest.
    cfg.IntOpt("realtime_scheduler_priority", default=1, min=1, max=99),
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


def read(path: str | pathlib.Path) -> NovaConf:
    """Read a nova.conf; everything else in it is ignored."""
    with opened(path, {"libvirt": LIBVIRT_OPTS, "compute": COMPUTE_OPTS}) as c:
        return _checked(c)


@contextlib.contextmanager
def opened(
    path: str | pathlib.Path, opts: Mapping[str, Sequence[cfg.Opt]]
) -> Iterator[cfg.ConfigOpts]:
    """A nova.conf with the options of some groups, for as long as it is read.

    What is wrong with the file or a value becomes a NovaRefusal.
    """
    conf = cfg.ConfigOpts()
    for group, options in opts.items():
        conf.register_opts(options, group=group)
    try:
        files.read(path)  # oslo.config would wait, or take all memory
        # The environment of this process says nothing about nova-compute's.
        conf(
            [],
            default_config_files=[str(path)],
            default_config_dirs=[],
            use_env=False,
        )
        yield conf
    except RecursionError as error:
        raise errors.NovaRefusal(
            "InvalidConfiguration",
            f"{path}: an option's value refers to itself by a $: write $$ for "
            "a dollar sign",
        ) from error
    except (cfg.Error, ValueError, OSError) as error:
        reason = " ".join(files.why(error).split())
        raise errors.NovaRefusal(
            "InvalidConfiguration", f"{path}: {reason}"
        ) from error


def _checked(conf: cfg.ConfigOpts) -> NovaConf:
    """Refuse what nova-compute refuses when it starts."""
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
    )


def _cpu_set(option: str, value: str | None) -> frozenset[int] | None:
    """``get_cpu_shared_set`` and ``get_cpu_dedicated_set``."""
    if not value:
        return None
    chosen = cpus.parse(value)
    if not chosen:
        raise errors.NovaRefusal(
            "Invalid",
            f"[compute] {option} = {value} contains no CPU: add one or "
            "unset it",
        )
    return chosen
