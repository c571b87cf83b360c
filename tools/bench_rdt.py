# SPDX-License-Identifier: Apache-2.0
"""What reading L3 occupancy and memory bandwidth costs, by source."""

import contextlib
import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ceilometer_perf.counters.gated import Gated
from ceilometer_perf.counters.libvirt import PerfSource
from ceilometer_perf.counters.monitor import Monitor, Report
from ceilometer_perf.counters.trust import Policy
from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.host.caches import Caches
from ceilometer_perf.host.connection import Connection
from ceilometer_perf.host.inventory import Inventory
from ceilometer_perf.host.monitors import Monitors
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.host.watching import Watching
from ceilometer_perf.meters import ENERGY_KEYS
from ceilometer_perf.rdt.choice import Choice
from ceilometer_perf.rdt.groups import Groups
from ceilometer_perf.rdt.look import Rdt
from ceilometer_perf.rdt.usage import Origin
from ceilometer_perf.reading import Counters
from tests.lab import MONITORS, Guest, Hardware, Lab, LabError
from tools.variants import Variant, measured, ratios

TIMEOUT = 60.0  # seconds
REFRESH = 600.0  # seconds, the default: not amid a measurement
RATIOS = (
    ("rdt_perf", "look"),
    ("rdt_libvirt", "look"),
    ("rdt_resctrl", "look"),
    ("rdt_files", "look"),
)


def hardware(guests: int) -> Hardware:
    """A machine that can monitor all of them, in two L3 caches."""
    return Hardware(domains=(0, 1), num_rmids=2 * guests + 1)


def guests(number: int) -> list[Guest]:
    """So many of each half."""
    return [
        *(
            Guest(f"perf-{n}", "paused", events=("cmt", "mbmt", "mbml"))
            for n in range(number)
        ),
        *(
            Guest(f"libvirt-{n}", "paused", events=(), extra=(MONITORS,))
            for n in range(number)
        ),
    ]


def bench(lab: Lab, number: int, rounds: int) -> dict[str, Any]:
    """Each of these guests is read by each source that it has."""
    found = measured(lab, rounds, lambda uri: _variants(uri, lab))
    return {
        "guests": number,
        "rounds": rounds,
        **found,
        **ratios(found, RATIOS),
    }


def _variants(uri: str, lab: Lab) -> Mapping[str, Variant]:
    connection = Connection(uri, TIMEOUT)
    run_dir = lab.run_dir / "qemu"
    processes = Processes(run_dir)
    source = PerfSource(connection, Inventory(connection, REFRESH))
    gated = Gated(source, processes, Policy())
    monitor = Monitor(gated, None, processes, Policy())
    report = monitor.look()
    by_perf = _part(report, lambda counters: "perf.cmt" in counters)
    by_libvirt = _part(report, lambda counters: "perf.cmt" not in counters)

    def rdt(only: Origin, root: Path) -> Rdt:
        # As root, without a helper; the others would remove the groups.
        watching = Watching(root, run_dir) if only == "resctrl" else None
        groups = Groups(Resctrl(root), processes, watching)
        monitors = Monitors(lambda: Connection(uri, TIMEOUT))
        choice = Choice(monitors, groups, processes, only)
        return Rdt(choice, Caches(connection))

    by_groups = rdt("resctrl", lab.resctrl_path)
    by_groups.look(by_perf)
    copy = _copied(lab)
    looks = {
        "rdt_perf": (rdt("perf", copy), by_perf),
        "rdt_libvirt": (rdt("libvirt", copy), by_libvirt),
        "rdt_resctrl": (by_groups, by_perf),
        "rdt_files": (rdt("resctrl", copy), by_perf),
    }
    return {
        "look": Variant(monitor.look),
        **{
            name: Variant(functools.partial(_look, rdt, part))
            for name, (rdt, part) in looks.items()
        },
    }


def _part(report: Report, belongs: Callable[[Counters], bool]) -> Report:
    """The report, as if there were no other instances."""
    judged = {
        uuid: each
        for uuid, each in report.judged.items()
        if belongs(report.reading.instances[uuid])
    }
    return Report(report.reading, {}, judged, {})


def _look(rdt: Rdt, report: Report) -> None:
    found = rdt.look(report)
    wrong = {
        judgement
        for judged in found.judged.values()
        for key, judgement in judged.items()
        if key not in ENERGY_KEYS  # the lab's CPUs count none
        and judgement.verdict not in (Verdict.OK, Verdict.NEW)
    }
    if wrong or len(found.judged) != len(report.judged):
        raise LabError(f"not every guest could be read: {wrong}")


def _copied(lab: Lab) -> Path:
    """The groups as they are, as plain files."""
    copy = lab.folder / "resctrl-copy"
    if not copy.exists():
        shutil.copytree(lab.resctrl_path, copy, copy_function=_copy)
    return copy


def _copy(source: str, target: str) -> None:
    # Such files say that they are empty; what may not be read stays behind.
    with contextlib.suppress(OSError):
        Path(target).write_bytes(Path(source).read_bytes())
