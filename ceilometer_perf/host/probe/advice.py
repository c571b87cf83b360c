# SPDX-License-Identifier: Apache-2.0
"""What nova.conf may say on this host.

libvirt starts no guest at all with an event that it can't open, so one wrong
name in ``enabled_perf_events`` keeps every guest of the host from booting.
"""

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping

from ceilometer_perf.events import EVENTS, Event
from ceilometer_perf.host.probe import Probed
from ceilometer_perf.host.probe.trials import Trial

WIDTH = 79  # characters of a comment

#: Of what the kernel itself knows; Debian and Ubuntu have levels above it, at
#: which only CAP_SYS_ADMIN counts.
MOST_PARANOID = 2


def left_out(report: Probed) -> Mapping[str, str]:
    """The events that nova.conf should not name, and why."""
    safe = report.safe()
    return {
        trial.event.name: trial.reason or _of_no_use(trial.event, report)
        for trial in report.trials
        if trial.event.name not in safe
    }


def _of_no_use(event: Event, report: Probed) -> str:
    if event.name in report.unfit:
        return report.unfit[event.name]
    return (
        "works, but not together with the others: with more events than free "
        f"hardware counters ({report.counters.number}), all are counted too "
        "low"
    )


def nova_conf(report: Probed) -> str:
    """The option for nova.conf, with comments on the events left out."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Probed) -> Iterator[str]:
    yield "[libvirt]"
    events: dict[str, list[str]] = defaultdict(list)
    for event, reason in left_out(report).items():
        events[reason].append(event)
    for reason, names in events.items():
        yield f"# Left out ({reason}):"
        yield from textwrap.wrap(
            ", ".join(names),
            WIDTH,
            initial_indent="#   ",
            subsequent_indent="#   ",
        )
    for note in notes(report):
        yield f"# Note: {note}"
    yield f"enabled_perf_events = {', '.join(report.safe())}".rstrip()


def notes(report: Probed) -> Iterator[str]:
    """What an operator should know of the list as a whole."""
    if any(trial.works is None for trial in report.trials):
        yield (
            "not run as root, as libvirt's daemon is: events that this user "
            "can't try are left out"
        )
    if report.virt.is_remote:
        yield (
            f"libvirt at {report.virt.uri} is another host's; the events were "
            "tried here"
        )
    if report.virt.error is not None:
        library = ".".join(map(str, report.virt.library))
        yield (
            f"libvirt at {report.virt.uri} was not reached; assuming "
            f"{library}, the version of the library here"
        )
    if report.counters.number is None:
        yield (
            "the number of free hardware counters was not measured: run as "
            "root"
        )
    paranoid = report.machine.paranoid
    if paranoid is not None and paranoid > MOST_PARANOID:
        yield (
            f"perf_event_paranoid is {paranoid}: above {MOST_PARANOID}, "
            "CAP_PERFMON does not let the agent's helper count"
        )
    yield from _crowd(report)


def _crowd(report: Probed) -> Iterator[str]:
    """More hardware events than counters: what could be dropped."""
    crowd = [t for t in report.trials if _is_crowded_out(t, report)]
    if not crowd:
        return
    # What came later and fits has a counter that the first could not use.
    order = list(EVENTS.values())
    rivals = [
        event.name
        for event in reversed(report.counters.together)
        if order.index(event) < order.index(crowd[0].event)
    ]
    if rivals:
        yield (
            "to keep an event that found no counter, drop one of these "
            f"instead, the least useful first: {', '.join(rivals)}"
        )
    else:
        yield (
            "something else holds the counters: a profiler, or a guest with "
            "a virtual PMU that profiles"
        )
    if report.machine.nmi_watchdog:
        yield (
            "the NMI watchdog holds one counter of each CPU; "
            "kernel.nmi_watchdog=0 frees it"
        )


def _is_crowded_out(trial: Trial, report: Probed) -> bool:
    return (
        bool(trial.works)
        and trial.event.name not in report.unfit
        and report.crowded_out(trial.event)
    )
