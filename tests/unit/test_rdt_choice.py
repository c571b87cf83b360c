# SPDX-License-Identifier: Apache-2.0
"""Each instance is read from one source, and a stuck one costs no other."""

import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.monitors import Monitors
from ceilometer_perf.host.processes import Process, Processes
from ceilometer_perf.rdt import groups, libvirt_monitors, tune
from ceilometer_perf.rdt.choice import Choice
from ceilometer_perf.rdt.usage import (
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Origin,
    Usage,
)
from ceilometer_perf.reading import Counters, Guest, Reading
from tests.unit.fakes import guest, unavailable

MONITORED = """
<domain><cputune>
  <memorytune vcpus='0'><monitor vcpus='0'/></memorytune>
</cputune></domain>
"""
STATS = {
    "memory.bandwidth.monitor.count": 1,
    "memory.bandwidth.monitor.0.vcpus": "0",
    "memory.bandwidth.monitor.0.node.count": 1,
    "memory.bandwidth.monitor.0.node.0.id": 0,
    "memory.bandwidth.monitor.0.node.0.bytes.total": 5,
}


class Groups(groups.Groups):
    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.kept: set[str] = set()
        self.wrong: Judgement | None = None

    def why_wrong(self) -> Judgement | None:
        return self.wrong

    def read(
        self, guests: Mapping[str, Guest], keep: Collection[str] = ()
    ) -> dict[str, Any]:
        self.asked.append(set(guests))
        self.kept = set(keep)
        self.began = time.monotonic()
        return {uuid: Usage("resctrl", 1) for uuid in guests}


class Libvirt(Monitors):
    def __init__(self, **stats: Mapping[str, Any]) -> None:
        self.asked: list[set[str]] = []
        self.stats = stats
        self.fails: Exception | None = None

    def read(self, uuids: Collection[str]) -> Mapping[str, Any]:
        self.asked.append(set(uuids))
        if self.fails:
            raise self.fails
        return self.stats


GUESTS: dict[str, Guest] = {
    "old": guest("instance-1", xml=MONITORED),
    "xml": guest("instance-2", xml=MONITORED),
    "new": guest("instance-3"),
}
COUNTERS: dict[str, Counters] = {"old": {"perf.cmt": 1}, "xml": {}, "new": {}}


class Host(Processes):
    """Its processes started then, one after the other; the last remains."""

    def __init__(self, *processes: int | None) -> None:
        self.processes = list(processes)
        self.asked: list[str] = []

    def guest(self, name: str, uuid: str) -> Process | None:
        self.asked.append(uuid)
        started = self.processes[0]
        if self.processes[1:]:
            del self.processes[0]
        return None if started is None else Process(42, started, 1, 0)


def choosing(
    libvirt: Monitors, groups: Groups, only: Origin | None = None,
    host: Host | None = None,
) -> Choice:  # fmt: skip
    return Choice(libvirt, groups, host or Host(500), only)


SINCE = datetime(2026, 11, 27, tzinfo=UTC)


def gated(
    judgements: Mapping[str, Mapping[str, Judgement]], since: datetime = SINCE
) -> Mapping[str, Judged]:
    return {u: Judged(each, None, since) for u, each in judgements.items()}


def read(choice: Choice, **counters: Counters) -> dict[str, str]:
    return read_guests(choice, GUESTS, counters or COUNTERS)


def read_guests(
    choice: Choice,
    guests: Mapping[str, Guest],
    counters: Mapping[str, Counters] | None = None,
) -> dict[str, str]:
    read = counters or {uuid: {} for uuid in guests}
    reading = Reading(0, 0, guests, read)
    judged = {u: dict.fromkeys(read[u], verdicts.OK) for u in read}
    answers = choice.read(reading, gated(judged))
    return {
        uuid: each.verdict.value
        if isinstance(each, Judgement)
        else each.source
        for uuid, each in answers.items()
    }


def test_first_source_that_the_instance_has() -> None:
    groups = Groups()
    assert read(choosing(Libvirt(xml=STATS), groups)) == {
        "old": "perf",
        "xml": "libvirt",
        "new": "resctrl",
    }
    assert groups.asked == [{"new"}]


@pytest.mark.parametrize(
    ("only", "read_from_it"),
    [
        (
            "perf",
            {"old": "perf", "xml": "not_enabled", "new": "not_enabled"},
        ),
        (
            "libvirt",
            {"old": "libvirt", "xml": "libvirt", "new": "not_enabled"},
        ),
        ("resctrl", dict.fromkeys(GUESTS, "resctrl")),
    ],
)
def test_only_one_source(only: Origin, read_from_it: dict[str, str]) -> None:
    libvirt, groups = Libvirt(old=STATS, xml=STATS), Groups()
    assert read(choosing(libvirt, groups, only)) == read_from_it
    # What an agent with another source has left is removed.
    assert groups.asked == [set(GUESTS) if only == "resctrl" else set()]
    assert groups.kept == set()


def test_monitors_are_as_old_as_their_reading() -> None:
    """However long the groups of others take."""
    groups = Groups()
    before = time.monotonic()
    reading = Reading(0, 0, GUESTS, {"xml": {}, "new": {}})
    answers = choosing(Libvirt(xml=STATS), groups).read(
        reading, gated({"xml": {}, "new": {}})
    )
    monitored = answers["xml"]
    assert isinstance(monitored, Usage)
    assert monitored.moment is not None
    assert before < monitored.moment.taken_at < groups.began


def test_libvirt_that_hangs_costs_its_own_only() -> None:
    libvirt = Libvirt()
    libvirt.fails = unavailable("no answer")
    assert read(choosing(libvirt, Groups())) == {
        "old": "perf",
        "xml": Verdict.STALE,
        "new": "resctrl",
    }


@pytest.mark.parametrize("only", [None, "libvirt", "resctrl"])
def test_what_the_kernel_counts_wrong_nobody_reads_right(
    only: Origin | None,
) -> None:
    groups = Groups()
    groups.wrong = verdicts.SPLIT_UNSEEN
    libvirt = Libvirt(xml=STATS)
    found = read(choosing(libvirt, groups, only))
    lacks = dict.fromkeys(("xml", "new"), Verdict.HOST_LACKS.value)
    assert found == {
        "old": Verdict.HOST_LACKS.value if only else "perf", **lacks,
    }  # fmt: skip
    assert libvirt.asked == []
    assert groups.asked == [set()]  # and so keeps none


def test_monitor_that_can_not_be_read() -> None:
    assert read(choosing(Libvirt(), Groups()))["xml"] == Verdict.STALE


TWO = "<vcpu>2</vcpu>"
ONE_IS_OFF = (
    f"{TWO}<vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/>"
    "<vcpu id='1' enabled='no' hotpluggable='yes'/></vcpus>"
)


@pytest.mark.parametrize(
    ("vcpus", "monitored", "answer"),
    [
        ("", "0", "libvirt"),
        (TWO, "0", "not_enabled"),
        (TWO, "0-1", "libvirt"),
        (ONE_IS_OFF, "0", "libvirt"),
    ],
)
def test_a_part_of_the_vcpus_is_not_the_instance(
    vcpus: str, monitored: str, answer: str
) -> None:
    xml = MONITORED.replace("<cputune>", f"{vcpus}<cputune>").replace(
        "<monitor vcpus='0'/>", f"<monitor vcpus='{monitored}'/>"
    )
    guests = {"xml": guest("instance-2", xml=xml)}
    stats = {**STATS, "memory.bandwidth.monitor.0.vcpus": monitored}
    assert read_guests(choosing(Libvirt(xml=stats), Groups()), guests) == {
        "xml": answer
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory.bandwidth.monitor.count": 1 << 32},
        {"memory.bandwidth.monitor.count": "one"},
        {"memory.bandwidth.monitor.0.vcpus": "x"},
        {"memory.bandwidth.monitor.0.node.0.id": None},
        {"memory.bandwidth.monitor.0.node.count": 2},
    ],
)
def test_monitor_that_is_not_libvirts_costs_its_own_only(
    wrong: Mapping[str, Any],
) -> None:
    assert read(choosing(Libvirt(xml={**STATS, **wrong}), Groups())) == {
        "old": "perf",
        "xml": Verdict.STALE,
        "new": "resctrl",
    }


@pytest.mark.parametrize("value", [-1, "5", 5.0, 1 << 64, None])
def test_monitor_without_a_number(value: object) -> None:
    stats = {**STATS, "memory.bandwidth.monitor.0.node.0.bytes.total": value}
    usage = libvirt_monitors.usage(1, stats)
    assert usage is not None
    assert usage.banks[TOTAL] == {0: None}


def test_monitors_that_are_read_go_on_while_others_are_not() -> None:
    expected = tune.monitored(BOTH)
    whole = {**STATS, "memory.bandwidth.monitor.0.vcpus": "0-1"}
    before = libvirt_monitors.usage(1, {**CACHE, **whole}, expected)
    after = libvirt_monitors.usage(1, whole, expected)
    rebooted = libvirt_monitors.usage(2, whole, expected)
    assert before is not None
    assert after is not None
    assert rebooted is not None
    assert before.identity == after.identity != rebooted.identity


def test_monitor_of_the_whole_process() -> None:
    """Without vCPUs, as libvirt after 12.5 has it: it is all of them."""
    xml = f"<domain>{TWO}{MONITORED.strip().removeprefix('<domain>')}"
    xml = xml.replace(" vcpus='0'", "")
    stats = {**STATS}
    del stats["memory.bandwidth.monitor.0.vcpus"]
    guests = {"xml": guest("instance-2", xml=xml)}
    assert read_guests(choosing(Libvirt(xml=stats), Groups()), guests) == {
        "xml": "libvirt"
    }


BOTH = """
<domain><vcpu>2</vcpu><cputune>
  <cachetune vcpus='0-1'>
    <monitor level='3' vcpus='0'/><monitor level='3' vcpus='1'/>
  </cachetune>
  <memorytune vcpus='0-1'><monitor vcpus='0-1'/></memorytune>
</cputune></domain>
"""
CACHE = {
    "cpu.cache.monitor.count": 2,
    **{
        f"cpu.cache.monitor.{n}.{key}": value
        for n in (0, 1)
        for key, value in {
            "vcpus": str(n), "bank.count": 1, "bank.0.id": 0,
            "bank.0.bytes": 7,
        }.items()
    },
}  # fmt: skip
ONE = {**CACHE, "cpu.cache.monitor.count": 1}
NONE: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("cache", "memory", "unread"),
    [
        (CACHE, True, set()),
        (ONE, True, {OCCUPANCY}),
        (NONE, True, {OCCUPANCY}),
        (CACHE, False, {TOTAL, LOCAL}),
    ],
)
def test_monitor_that_libvirt_leaves_out(
    cache: Mapping[str, Any], memory: bool, unread: set[str]
) -> None:
    """libvirt 11.3 does, without a word, if it can't read one."""
    whole = {**STATS, "memory.bandwidth.monitor.0.vcpus": "0-1"}
    stats = {**cache, **(whole if memory else {})}
    reading = Reading(
        0, 0, {"xml": guest("instance-2", xml=BOTH)}, {"xml": {}}
    )
    choice = choosing(Libvirt(xml=stats), Groups())
    usage = choice.read(reading, gated({"xml": {}}))["xml"]
    assert isinstance(usage, Usage)
    assert usage.unread == unread
    known = {f for f in (OCCUPANCY, TOTAL) if usage.sum(f) is not None}
    assert known == {OCCUPANCY, TOTAL} - unread
    nothing = choosing(Libvirt(xml={}), Groups()).read(
        reading, gated({"xml": {}})
    )
    assert nothing == {"xml": verdicts.MONITOR_UNREAD}


def test_monitor_of_energy_is_libvirts_too() -> None:
    """Where libvirt counts, no group of ours takes its threads away."""
    xml = f"<domain>{TWO}{MONITORED.strip().removeprefix('<domain>')}"
    xml = xml.replace("memorytune", "energytune").replace("'0'", "'0-1'")
    assert tune.monitored(xml)["energytune"] == (frozenset({0, 1}),)
    stats = {
        "cpu.energy.monitor.count": 1,
        "cpu.energy.monitor.0.vcpus": "0-1",
        "cpu.energy.monitor.0.pkg.count": 1,
        "cpu.energy.monitor.0.pkg.0.id": 0,
        "cpu.energy.monitor.0.pkg.0.core_energy": 1.5,
    }
    guests = {"xml": guest("instance-2", xml=xml)}
    told, mute = Libvirt(xml=stats), Libvirt(xml={})
    assert read_guests(choosing(told, Groups()), guests) == {"xml": "libvirt"}
    assert read_guests(choosing(mute, Groups()), guests) == {
        "xml": Verdict.STALE
    }


def test_as_many_monitors_as_there_are_entries_is_possible() -> None:
    """But not more: the number is not trusted with the time it costs."""
    one = {"cpu.cache.monitor.count": 1}
    assert libvirt_monitors.usage(1, one) is not None
    with pytest.raises(ValueError, match=r"^cpu\.cache\.monitor\.count is 2$"):
        libvirt_monitors.usage(1, {"cpu.cache.monitor.count": 2})


def test_libvirt_is_not_asked_where_no_xml_has_a_monitor() -> None:
    libvirt, groups = Libvirt(), Groups()
    assert read(choosing(libvirt, groups), new={}) == {"new": "resctrl"}
    assert libvirt.asked == []


def test_nobody_left_is_no_group_to_keep() -> None:
    groups = Groups()
    read(choosing(Libvirt(), groups), old={"perf.cmt": 1})
    assert groups.asked == [set()]
    # They run: the bulk read has missed them.
    assert groups.kept == {"xml", "new"}


def test_what_the_gate_withholds_is_not_read_from_elsewhere() -> None:
    reading = Reading(0, 0, GUESTS, {"old": {"perf.cmt": 1}})
    judged = {"old": {"perf.cmt": verdicts.RESTARTED}}
    groups = Groups()
    answers = choosing(Libvirt(), groups).read(reading, gated(judged))
    assert answers == {"old": verdicts.RESTARTED}
    assert groups.asked == [set()]


def test_who_was_not_judged_is_left_alone_and_its_group_kept() -> None:
    reading = Reading(0, 0, GUESTS, {"new": {}})
    groups = Groups()
    assert choosing(Libvirt(), groups).read(reading, {}) == {}
    assert groups.kept == set(GUESTS)


def test_libvirt_is_asked_for_those_alone_that_have_a_monitor() -> None:
    libvirt = Libvirt(xml=STATS)
    read(choosing(libvirt, Groups()))
    assert libvirt.asked == [{"xml"}]


def test_what_libvirt_said_is_why() -> None:
    libvirt = Libvirt()
    libvirt.fails = unavailable("no answer")
    reading = Reading(0, 0, GUESTS, {"xml": {}})
    answers = choosing(libvirt, Groups()).read(reading, gated({"xml": {}}))
    assert answers == {"xml": verdicts.stale("no answer")}


@pytest.mark.parametrize(
    "counters", [{"perf.cmt": 1}, {}], ids=["perf", "libvirt"]
)
def test_another_boot_is_another_counter(counters: Counters) -> None:
    seen = []
    for boot in 7, 7, 8:
        guests = {"u": guest("instance-1", id=boot, xml=MONITORED)}
        reading = Reading(0, 0, guests, {"u": counters})
        judged = {"u": dict.fromkeys(counters, verdicts.OK)}
        choice = choosing(Libvirt(u=STATS), Groups())
        (usage,) = choice.read(reading, gated(judged)).values()
        assert isinstance(usage, Usage)
        seen.append(usage.identity)
    assert seen[0] == seen[1] != seen[2]


def test_groups_of_those_that_run_and_may_have_one_are_kept() -> None:
    """A realtime guest may have none, and one that is off has no threads."""
    guests = {
        "runs": guest("a", id=0),
        "off": guest("b", id=-1),
        "realtime": guest("c", realtime=True),
    }
    groups = Groups()
    choosing(Libvirt(), groups).read(Reading(0, 0, guests, {}), {})
    assert groups.kept == {"runs"}


# The processes behind


def identities(counters: Counters, *hosts: Host) -> list[object]:
    """Of what is read by one source, with each of these hosts."""
    found = []
    for host in hosts:
        choice = choosing(Libvirt(xml=STATS), Groups(), host=host)
        answers = choice.read(
            Reading(0, 0, GUESTS, {"xml": counters}),
            gated({"xml": dict.fromkeys(counters, verdicts.OK)}),
        )
        usage = answers["xml"]
        assert isinstance(usage, Usage)
        found.append(usage.identity)
    return found


def test_another_process_is_another_counter() -> None:
    """A group stays, and a restarted libvirtd gives the same id again."""
    one, same, other, unseen = identities(
        {}, Host(500), Host(500), Host(900), Host(None)
    )
    assert one == same
    assert len({one, other, unseen}) == 3


@pytest.mark.parametrize("uuid", ["xml", "new"])
@pytest.mark.parametrize("seen", [[500, 900], [500, None], [None, 900]])
def test_what_is_read_while_the_process_changes_is_nobody_s(
    uuid: str, seen: list[int | None]
) -> None:
    """As of a group with what the one before left in the caches."""
    choice = choosing(Libvirt(xml=STATS), Groups(), host=Host(*seen))
    reading = Reading(0, 0, GUESTS, {uuid: {}})
    answers = choice.read(reading, gated({uuid: {}}))
    assert answers == {uuid: verdicts.MEANWHILE}


def test_why_it_is_not_known_is_said_whatever_the_process_does() -> None:
    choice = choosing(Libvirt(xml={}), Groups(), host=Host(500, 900))
    reading = Reading(0, 0, GUESTS, {"xml": {}})
    answers = choice.read(reading, gated({"xml": {}}))
    assert answers == {"xml": verdicts.MONITOR_UNREAD}


def test_perf_is_what_the_gate_has_held_to_a_process() -> None:
    host = Host(500)
    read(choosing(Libvirt(xml=STATS), Groups(), host=host))
    assert sorted(host.asked) == ["new", "new", "xml", "xml"]
    read(choosing(Libvirt(xml=STATS), Groups(), "resctrl", host))
    assert "old" in host.asked


def test_perf_counters_that_restart_are_others() -> None:
    seen = []
    for since in SINCE, SINCE, SINCE + timedelta(microseconds=1):
        reading = Reading(0, 0, GUESTS, {"old": {"perf.cmt": 1}})
        judged = gated({"old": {"perf.cmt": verdicts.OK}}, since)
        usage = choosing(Libvirt(), Groups()).read(reading, judged)["old"]
        assert isinstance(usage, Usage)
        seen.append(usage.identity)
    assert seen[0] == seen[1] != seen[2]
