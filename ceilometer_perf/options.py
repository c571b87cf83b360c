# SPDX-License-Identifier: Apache-2.0
"""Every option of ``[perf]``.

The agent asks no plugin for its ``oslo.config.opts`` (only the generator of
sample files does), so code that needs the options calls :func:`register`.
"""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oslo_config import cfg

from ceilometer_perf.events import EVENTS, TYPES

GROUP = "perf"

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "libvirt_timeout",
        default=10.0,
        min=0.1,
        max=3600.0,
        help="Seconds that libvirt may take to answer a call, opening the "
        "connection included. After that the polling cycle goes on "
        "without perf samples, and the next cycle asks again; a late "
        "answer is discarded. The default is far above what a healthy "
        "libvirtd needs (milliseconds for hundreds of instances) and "
        "well below usual polling intervals, so that a hung libvirtd "
        "hardly delays the other pollsters.",
    ),
    cfg.FloatOpt(
        "inventory_interval",
        default=600.0,
        min=0.0,
        help="Seconds after which the XML of every domain is read again, "
        "in case libvirt's event of a change was lost; 0 reads it in "
        "every cycle. It takes one libvirt call per domain, about 0.2 "
        "ms: negligible at the default, which bounds how long a "
        "change can be missed.",
    ),
    cfg.StrOpt(
        "counters",
        default="auto",
        choices=[
            ("auto", "libvirt's where they are right, else own"),
            ("libvirt", "libvirt's, or none"),
            ("own", "the privileged helper's, of every instance"),
        ],
        help="Who counts perf events. By default libvirt does, where the "
        "instance was started with events in its XML; and the privileged "
        "helper where it was not, and where a restart of libvirtd has "
        "detached the counters. With 'libvirt' no privilege is needed.",
    ),
    cfg.ListOpt(
        "own_events",
        default=[
            "cpu_cycles",
            "instructions",
            "cache_references",
            "cache_misses",
            "branch_instructions",
            "branch_misses",
            "task_clock",
            "page_faults",
            "context_switches",
            "cpu_migrations",
        ],
        help="What the privileged helper counts, by libvirt's names of the "
        "events. The default are the hardware events of which ratios are "
        "published, which most CPUs count at once, and the software events "
        "that tell most. Each is open on each thread of an instance, with "
        "1.3 KiB of kernel memory and one of the helper's file descriptors.",
    ),
    cfg.FloatOpt(
        "min_running",
        default=0.2,
        min=0.0,
        max=1.0,
        help="Share of the time in which an event of the privileged helper "
        "must have been on one of the CPUs' counters to be published, from 0 "
        "(publish all) to 1. Where hardware events have to take turns, what "
        "one of them missed is estimated from the rest: at the default from "
        "a fifth. The share is in the metadata as 'running'.",
    ),
    cfg.FloatOpt(
        "min_coverage",
        default=0.9,
        min=0.0,
        max=1.0,
        help="Share of an instance's CPU time that its counters must have "
        "seen to be published, from 0 (publish all) to 1. Counters "
        "that are opened in time see all of it, within a few percent "
        "of measuring error; those that were opened too late see next "
        "to nothing. The default is far from both.",
    ),
    cfg.FloatOpt(
        "coverage_floor",
        default=1.0,
        min=0.1,
        help="Seconds of CPU time that an instance must have used before "
        "its counters are compared with it. The kernel shows CPU time in "
        "steps of a hundredth of a second, which are at most one percent of "
        "the default.",
    ),
    cfg.BoolOpt(
        "withhold_in_doubt",
        default=False,
        help="Withhold counters that nothing confirms yet: those of an "
        "instance without task_clock and cpu_clock, or of one that "
        "used less CPU time than coverage_floor. By default they are "
        "published: counters that go wrong later are recognised "
        "without a clock, and an instance that hardly ran counted "
        "hardly anything. Set it where counters are billed.",
    ),
    cfg.BoolOpt(
        "poll_realtime_guests",
        default=False,
        help="Read the counters of instances that have realtime vCPUs. Each "
        "counter that is read interrupts the CPU of each running vCPU, so "
        "by default these instances are left alone.",
    ),
    cfg.IntOpt(
        "hardware_counters",
        default=0,
        min=0,
        help="How many hardware events the host's CPUs count at once, as "
        "reported by 'ceilometer-perf host probe'. An instance with "
        "more hardware events than that gets too low a number for "
        "each of them. The default, 0, means unknown: nothing is "
        "checked.",
    ),
    cfg.BoolOpt(
        "withhold_multiplexed",
        default=True,
        help="Withhold the hardware counters of instances that have more of "
        "them than hardware_counters. They are too low by an unknown "
        "factor, so by default they are withheld. Otherwise "
        "'multiplexed' is among the flags in their metadata.",
    ),
    cfg.StrOpt(
        "qemu_run_dir",
        default="/run/libvirt/qemu",
        help="Folder of the files NAME.pid that libvirt writes for its "
        "guests, as this agent sees it. The default is where libvirt writes "
        "them; an agent in a container needs it mounted, and the host's "
        "process ids (--pid=host), to compare counters with CPU time.",
    ),
    cfg.StrOpt(
        "resctrl_path",
        default="/sys/fs/resctrl",
        help="Where the kernel's resctrl file system is mounted. The "
        "default is the usual place. The privileged helper reads this "
        "from its own configuration files.",
    ),
    cfg.StrOpt(
        "rdt_source",
        default="auto",
        choices=[
            ("auto", "for each instance the first of these that it has"),
            ("perf", "the perf events cmt, mbmt and mbml (Linux < 4.14)"),
            ("libvirt", "the monitors in the instance's <cputune>"),
            ("resctrl", "monitoring groups created for each instance"),
        ],
        help="Where L3 occupancy and memory bandwidth are read. By default "
        "each instance is read from what it already has, and gets a "
        "monitoring group only where it has nothing. With 'perf' or "
        "'libvirt' no group is ever created and no privilege is "
        "needed.",
    ),
    cfg.StrOpt(
        "neighbours_file",
        default="/var/lib/ceilometer/perf-neighbours.json",
        help="Where the agent keeps what it has found of neighbours, which "
        "'ceilometer-perf neighbours' shows, and what is usual of each "
        "instance, which would take half an hour to learn again when the "
        "agent restarts. It is written in each cycle in which "
        "perf.neighbour.* is polled. The agent's user must be allowed to "
        "create files in the folder, by default its home.",
    ),
    cfg.StrOpt(
        "privsep_helper",
        default="sudo privsep-helper "
        "--config-file /etc/ceilometer/ceilometer.conf",
        help="The command that starts the privileged helper, which creates "
        "resctrl groups, and counts perf events where libvirt does not; "
        "oslo.privsep adds arguments of its own. The default needs the "
        "sample sudoers file, which allows this command and no other "
        "configuration file. It is started when there is something to do.",
    ),
]


@dataclass(frozen=True, slots=True)
class Settings:
    """The value of each option, by its name."""

    libvirt_timeout: float
    inventory_interval: float
    counters: str
    own_events: tuple[str, ...]
    min_running: float
    min_coverage: float
    coverage_floor: float
    withhold_in_doubt: bool
    poll_realtime_guests: bool
    hardware_counters: int
    withhold_multiplexed: bool
    qemu_run_dir: str
    resctrl_path: str
    rdt_source: str
    neighbours_file: str
    privsep_helper: str


def settings(conf: cfg.ConfigOpts) -> Settings:
    """All options.

    :raises ValueError: as :func:`get`.
    """
    register(conf)
    return Settings(**{opt.name: get(conf, opt.name) for opt in OPTS})


def register(conf: cfg.ConfigOpts) -> None:
    """Make ``conf.perf`` known; harmless when it already is."""
    conf.register_opts(OPTS, group=GROUP)


def get(conf: cfg.ConfigOpts, name: str) -> Any:
    """The value of one option.

    :raises ValueError: one line that names the option, what is wrong with
        its value and what would be right.
    """
    try:
        value = conf[GROUP][name]
        _check(name, value)
    except (ValueError, cfg.Error, RecursionError) as exc:
        default = next(opt.default for opt in OPTS if opt.name == name)
        raise ValueError(
            f"[{GROUP}] {name}: {_wrong(exc)} (the default is {default})"
        ) from exc
    # Settings tell equal options apart by their hashes.
    return tuple(value) if isinstance(value, list) else value


def _check(name: str, value: Any) -> None:
    """ValueError for what oslo.config accepts but can't be used."""
    if value is None or value == "":
        raise ValueError("it must have a value")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} must be finite")
    if name in PATHS and not Path(value).is_absolute():
        raise ValueError(f"{value!r} must be an absolute path")
    if name == "own_events":
        _check_events(value)
    if name == "privsep_helper" and not shlex.split(value):
        raise ValueError("it must have a value")


def _check_events(names: list[str]) -> None:
    known = [e.name for e in EVENTS.values() if e.kind in TYPES]
    known.remove(_LIBVIRT_S)
    if not names:
        raise ValueError("it must name an event")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is listed twice")
    if _LIBVIRT_S in names:
        raise ValueError(
            f"{_LIBVIRT_S} is what libvirt calls cpu_cycles; list that"
        )
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"there is no event {unknown[0]!r}; it must be one of "
            f"{', '.join(known)}"
        )


#: See :mod:`.events`. Another event of this name would be mixed with it.
_LIBVIRT_S = "ref_cpu_cycles"

PATHS = frozenset({"qemu_run_dir", "resctrl_path", "neighbours_file"})


def _wrong(exc: Exception) -> object:
    """What is wrong, by the innermost exception."""
    if isinstance(exc, RecursionError):
        return "its value refers to itself"
    return exc.__context__ or exc if isinstance(exc, ValueError) else exc


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options by group, for ``oslo-config-generator``."""
    return [(GROUP, OPTS)]
