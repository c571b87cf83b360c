# SPDX-License-Identifier: Apache-2.0
"""The links on the host: nova.conf, libvirt, the instances, the gate."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ceilometer_perf import guest
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.verdicts import REOPEN, Judgement, Verdict
from ceilometer_perf.doctor import agent
from ceilometer_perf.doctor.finding import (
    BrokenError,
    Finding,
    fine,
    listed,
    warning,
)
from ceilometer_perf.doctor.names import meant
from ceilometer_perf.doctor.patient import Patient, counted
from ceilometer_perf.doctor.status import COUNTERS, Instance
from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest import compute_driver, enabled_events, errors
from ceilometer_perf.guest import nova_conf as nova
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host import connection, daemon, descriptors
from ceilometer_perf.host.probe import machine
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.plural import number_of
from ceilometer_perf.reading import SourceUnavailableError

#: The share of them that libvirt's daemon may have in use without a warning.
MOST_DESCRIPTORS = 0.8

REBOOT = (
    "hard reboot them (openstack server reboot --hard): Nova writes the "
    "events of nova.conf when it starts an instance"
)
SAFE = (
    "use the output of 'ceilometer-perf host probe --nova-conf', restart "
    "nova-compute and hard reboot the instances"
)


def nova_conf(patient: Patient) -> Finding:
    """Nova enables events that this host can count, and no others."""
    where = patient.nova_conf
    if where is None:
        return warning(
            "no nova.conf that this user can see",
            "give its path with --nova-conf, or run this as root",
        )
    try:
        names = nova.read(where).perf_events
    except errors.GuestError as error:
        if isinstance(error.__cause__, OSError):
            # nova-compute can: it has another user, or is in a container.
            return warning(
                str(error),
                "run this as root on the host, or name a copy with "
                "--nova-conf",
            )
        raise BrokenError(str(error), "fix it") from error
    ours = compute_driver.configured(where) == compute_driver.NAME
    if ours and compute_driver.is_missing():
        return warning(
            f"{where}: compute_driver is {compute_driver.NAME}, and the Nova "
            f"of this Python has no {compute_driver.MODULE}",
            "install ceilometer-perf[nova] beside the Nova of nova-compute; "
            "the page 'Slices in Nova' says how",
        )
    if not names and patient.counts_itself:
        return fine(f"{where} enables no event; the agent counts itself")
    if not names:
        raise BrokenError(
            f"{where}: [libvirt] enabled_perf_events is empty", SAFE
        )
    if not ours:
        _spelled(names)
    return _enabled(patient, where, names, leaves_out=ours)


def _enabled(
    patient: Patient,
    where: NovaFiles,
    names: Sequence[str],
    *,
    leaves_out: bool,
) -> Finding:
    """``leaves_out``: the driver enables none that can't be counted."""
    facts = guest.HostFacts(
        intel_cqm=machine.cqm_type(Path("/sys")) is not None
    )
    chosen, ignored = enabled_events.choose(names, facts)
    if not leaves_out:
        _possible(patient, chosen)
    if not chosen:
        raise BrokenError("; ".join(ignored), SAFE)
    if ignored:
        return warning("; ".join(ignored), SAFE)
    return fine(f"{where}: {number_of(len(chosen), 'event')} enabled")


def _spelled(names: Sequence[str]) -> None:
    twice = [n for n, times in Counter(names).items() if times > 1]
    capital = [name for name in names if name != name.lower()]
    if twice or capital:
        raise BrokenError(
            f"[libvirt] enabled_perf_events: {listed(twice + capital)} is "
            "listed twice or in capitals, with which libvirt starts no "
            "instance",
            "name each event once, in lower case",
        )
    commented = [name for name in names if "#" in name]
    if commented:
        raise BrokenError(
            f"[libvirt] enabled_perf_events: {listed(commented)} has a "
            "comment in it, which is part of the value to oslo.config",
            "put the comment on a line of its own",
        )
    unknown = [name for name in names if name not in EVENTS]
    if unknown:
        raise BrokenError(
            "[libvirt] enabled_perf_events: libvirt knows no event "
            f"{listed(unknown)}",
            f"did you mean {listed(meant(unknown, EVENTS))}?",
        )


def _possible(patient: Patient, names: Iterable[str]) -> None:
    try:
        lacks = patient.lacks
    except SourceUnavailableError:  # the next link reports it
        return
    impossible = [
        name for name in names if name in lacks.keys() - patient.counted
    ]
    if impossible:
        raise BrokenError(
            f"[libvirt] enabled_perf_events: {listed(impossible)} can't be "
            f"counted here ({lacks[impossible[0]]}), and libvirt starts no "
            "instance with an event that it can't open",
            SAFE,
        )


def libvirt(patient: Patient) -> Finding:
    """It answers this user, read-only, as it would answer the agent."""
    try:
        status = patient.status
        version = patient.parts.connection.call(lambda s: s.version_text)
    except SourceUnavailableError as error:
        remedy = (
            connection.UNKNOWN_USER
            if connection.is_of_unknown_user(str(error))
            else f"start {daemon.name()}, let the agent's user read from its "
            "socket, and set [DEFAULT] libvirt_uri in ceilometer.conf to its "
            "URI"
        )
        raise BrokenError(
            f"as user {os.geteuid()}: {error}", remedy
        ) from error
    domains = number_of(len(status.instances), "domain")
    return fine(f"libvirt {version} has {domains}")


def instances(patient: Patient) -> Finding:
    """There is one to count, and Nova created it."""
    found = patient.status.instances
    foreign = [each.name for each in found if not each.is_nova]
    if len(foreign) == len(found):
        raise BrokenError(
            "no instance of Nova's on this host "
            f"({number_of(len(found), 'other domain')})",
            "start one on this host; domains that Nova did not create are "
            "not polled",
        )
    if not patient.running:
        raise BrokenError("no instance is running", "start one")
    unseen = [i.name for i in patient.running if i.qemu_seen is False]
    if unseen:
        return warning(
            f"{verdicts.NO_PROCESS.reason} ({listed(unseen)})",
            verdicts.NO_PROCESS.remedy,
        )
    text = f"{number_of(len(patient.running), 'running instance')} of Nova's"
    if foreign:
        return warning(
            f"{text}; {listed(foreign)} has no Nova metadata",
            "hard reboot it if it is Nova's: other domains are not published",
        )
    return fine(text)


def xml(patient: Patient) -> Finding:
    """The instances were started with events."""
    # Who may not count is shown as if the agent could.
    own = {
        each.id
        for each in patient.running
        if each.source == "own" and patient.helper_counts
    }
    without = [
        each.name
        for each in patient.running
        if not each.events and each.id not in own
    ]
    if without and len(without) == len(patient.running):
        raise BrokenError(
            "no running instance has events in its XML: it was started "
            f"without, or {daemon.name()} was restarted and turned off what "
            "it could not reopen",
            _give_events(patient),
        )
    if without:
        return warning(
            f"{listed(without)}: no events in the XML", _give_events(patient)
        )
    if own:
        return fine(
            f"the agent itself counts {number_of(len(own), 'instance')}"
        )
    return fine("the running instances have events in their XML")


def _give_events(patient: Patient) -> str:
    """What has instances counted that have no events.

    A reboot alone gives them none if nova.conf has none.
    """
    by_nova = REBOOT if _nova_enables(patient) else SAFE
    if not patient.counts_itself:
        return by_nova
    return (
        "let the agent count them, which it does if it sees their QEMU and "
        f"may start its helper (see the links above); or {by_nova}"
    )


def _nova_enables(patient: Patient) -> bool:
    """Whether nova.conf has events; true if unknown."""
    if patient.nova_conf is None:
        return True
    try:
        return bool(nova.read(patient.nova_conf).perf_events)
    except errors.GuestError:
        return True


def pmu(patient: Patient) -> Finding:
    """libvirt counts the events of the XML."""
    read = [
        each
        for each in patient.running
        if each.since is not None and each.source != "own"
    ]
    mute = [i.name for i in read if i.events and not counted(i)]
    if mute and len(mute) == sum(bool(each.events) for each in read):
        raise BrokenError(
            f"libvirt counts no event of {listed(mute)}, though the XML "
            "enables some: it could not reopen them",
            REOPEN,
        )
    stuck = [
        instance.name
        for instance in patient.status.instances
        if not instance.is_running
        and patient.lacks.keys() - patient.counted & {*instance.events}
    ]
    if stuck:
        return warning(
            f"{listed(stuck)} does not start: the XML has events that can't "
            "be counted here",
            SAFE,
        )
    return _descriptors(patient) or _room(patient)


def _descriptors(patient: Patient) -> Finding | None:
    """Whether libvirt soon has no file left to open events with."""
    run = Path(patient.parts.settings.qemu_run_dir)
    driver = Processes(run).driver()
    limit = None if driver is None else descriptors.limit(driver.pid)
    if driver is None or limit is None:
        return None
    events = sum(len(each.events) for each in patient.running)
    used = max(events, descriptors.in_use(driver.pid) or 0)
    if used < MOST_DESCRIPTORS * limit:
        return None
    name = daemon.name()
    return warning(
        f"{name} has {used} of at most {limit} files open, {events} of them "
        "for perf events: with none left, no instance starts",
        f"raise LimitNOFILE of {name}.service and restart it, or enable fewer "
        "events",
    )


def _room(patient: Patient) -> Finding:
    hardware = {e.name for e in EVENTS.values() if e.kind == "hardware"}
    # Of the agent's own counters the kernel says how long each has counted.
    by_libvirt = {
        event
        for each in patient.status.instances
        if each.source != "own"
        for event in counted(each)
    }
    if by_libvirt & hardware and not (
        patient.parts.settings.hardware_counters
    ):
        return warning(
            "hardware events are counted, and [perf] hardware_counters does "
            "not say how many the CPUs count at once",
            "set it to what 'ceilometer-perf host probe' reports: with "
            "more events than that, all are counted too low",
        )
    return fine(f"libvirt counts {number_of(len(by_libvirt), 'event')}")


def gate(patient: Patient) -> Finding:
    """Something that is polled is right."""
    asked = set(agent.polled(patient))
    verdicts = [
        (instance, name, judgement)
        for instance in patient.running
        for name, judgement in instance.verdicts.items()
    ]
    good = {Verdict.OK, Verdict.NEW}
    if patient.helper_counts:
        good.add(Verdict.UNSEEN)  # by this user; the agent sees it
    passing = [n for _, n, j in verdicts if j.verdict in good]
    withheld = [(i, j) for i, _, j in verdicts if j.verdict.withholds]
    if patient.left_alone == patient.running:
        return warning(*commonest(withheld))
    if not passing:
        alone = {each.id for each in patient.left_alone}
        raise _why_nothing(
            [(i, j) for i, _, j in verdicts if i.id not in alone]
        )
    counters = {meter.name for meter in COUNTERS}
    if asked <= counters and not asked.intersection(passing):
        raise BrokenError(
            f"the published counters ({listed(sorted(set(passing)))}) are "
            "not those that polling.yaml asks for",
            "ask for these, or enable the events of the others in nova.conf",
        )
    if withheld:
        return warning(*commonest(withheld))
    return fine(f"{number_of(len(passing), 'counter')} published")


def _why_nothing(found: list[tuple[Instance, Judgement]]) -> BrokenError:
    """The best reason of those for which no counter is published."""
    withheld = [(i, j) for i, j in found if j.verdict.withholds]
    if withheld:
        return BrokenError(*commonest(withheld))
    own = [i.name for i, j in found if j.verdict is Verdict.UNSEEN]
    if own:
        names = listed(dict.fromkeys(own))
        return BrokenError(
            f"the agent has to count {names} itself, and its helper can't",
            "see the link helper",
        )
    return BrokenError(*commonest([x for x in found if x[1].remedy] or found))


def commonest(found: list[tuple[Instance, Judgement]]) -> tuple[str, str]:
    """Why something is withheld, of which instances, and the remedy.

    The most frequent reason.
    """
    if not found:
        return "no running instance has a counter", SAFE
    reasons = Counter(judgement for _, judgement in found)
    (common, _), *others = reasons.most_common()
    names = dict.fromkeys(i.name for i, j in found if j == common)
    remedy = common.remedy or (
        "nothing on this host: take these meters out of its polling.yaml"
        if common.verdict is Verdict.HOST_LACKS
        else "wait and run this again"
    )
    if others:
        more = number_of(len(others), "more reason")
        remedy += f"; 'ceilometer-perf status' shows {more}"
    return (
        f"{common.verdict.value}: {common.reason} ({listed(names)})",
        remedy,
    )
