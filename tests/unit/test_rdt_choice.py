# SPDX-License-Identifier: Apache-2.0
"""Each instance is read from one source, and a stuck one costs no other."""

import time
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host.monitors import Monitors
from ceilometer_perf.rdt import groups, libvirt_monitors
from ceilometer_perf.rdt.choice import Choice
from ceilometer_perf.rdt.usage import TOTAL, Origin, Usage
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
    answers = choice.read(reading, judged)
    return {
        uuid: each.verdict.value
        if isinstance(each, Judgement)
        else each.source
        for uuid, each in answers.items()
    }


def test_first_source_that_the_instance_has() -> None:
    groups = Groups()
    assert read(Choice(Libvirt(xml=STATS), groups)) == {
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
    libvirt = Libvirt(old=STATS, xml=STATS)
    assert read(Choice(libvirt, Groups(), only)) == read_from_it


def test_monitors_are_as_old_as_their_reading() -> None:
    """However long the groups of others take."""
    groups = Groups()
    before = time.monotonic()
    reading = Reading(0, 0, GUESTS, {"xml": {}, "new": {}})
    answers = Choice(Libvirt(xml=STATS), groups).read(
        reading, {"xml": {}, "new": {}}
    )
    monitored = answers["xml"]
    assert isinstance(monitored, Usage)
    assert monitored.moment is not None
    assert before < monitored.moment.taken_at < groups.began


def test_libvirt_that_hangs_costs_its_own_only() -> None:
    libvirt = Libvirt()
    libvirt.fails = unavailable("no answer")
    assert read(Choice(libvirt, Groups())) == {
        "old": "perf",
        "xml": Verdict.STALE,
        "new": "resctrl",
    }


def test_monitor_that_can_not_be_read() -> None:
    assert read(Choice(Libvirt(), Groups()))["xml"] == Verdict.STALE


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
    xml = MONITORED.replace("<cputune>", f"{vcpus}<cputune>")
    guests = {"xml": guest("instance-2", xml=xml)}
    stats = {**STATS, "memory.bandwidth.monitor.0.vcpus": monitored}
    assert read_guests(Choice(Libvirt(xml=stats), Groups()), guests) == {
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
    assert read(Choice(Libvirt(xml={**STATS, **wrong}), Groups())) == {
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


@pytest.mark.parametrize("missing", ["vcpus", "name"])
def test_monitor_that_does_not_say_all(missing: str) -> None:
    """It counts, under its number, and nobody knows for which vCPUs."""
    monitor = "memory.bandwidth.monitor.0"
    stats = {**STATS, f"{monitor}.name": "vcpus_0"}
    del stats[f"{monitor}.{missing}"]
    usage = libvirt_monitors.usage(1, stats)
    assert usage is not None
    name = "0" if missing == "name" else "vcpus_0"
    assert usage.identity == ((1, name),)
    assert usage.banks[TOTAL] == {0: 5}
    covers = libvirt_monitors.covers(stats, frozenset({0}))
    assert covers is (missing != "vcpus")


def test_as_many_monitors_as_there_are_entries_is_possible() -> None:
    """But not more: the number is not trusted with the time it costs."""
    one = {"cpu.cache.monitor.count": 1}
    assert libvirt_monitors.usage(1, one) is not None
    with pytest.raises(ValueError, match=r"^cpu\.cache\.monitor\.count is 2$"):
        libvirt_monitors.usage(1, {"cpu.cache.monitor.count": 2})


def test_libvirt_is_not_asked_where_no_xml_has_a_monitor() -> None:
    libvirt, groups = Libvirt(), Groups()
    assert read(Choice(libvirt, groups), new={}) == {"new": "resctrl"}
    assert libvirt.asked == []


def test_nobody_left_is_no_group_to_keep() -> None:
    groups = Groups()
    read(Choice(Libvirt(), groups), old={"perf.cmt": 1})
    assert groups.asked == [set()]
    # They run: the bulk read has missed them.
    assert groups.kept == {"xml", "new"}


def test_what_the_gate_withholds_is_not_read_from_elsewhere() -> None:
    reading = Reading(0, 0, GUESTS, {"old": {"perf.cmt": 1}})
    judged = {"old": {"perf.cmt": verdicts.RESTARTED}}
    groups = Groups()
    answers = Choice(Libvirt(), groups).read(reading, judged)
    assert answers == {"old": verdicts.RESTARTED}
    assert groups.asked == [set()]


def test_who_was_not_judged_is_left_alone_and_its_group_kept() -> None:
    reading = Reading(0, 0, GUESTS, {"new": {}})
    groups = Groups()
    assert Choice(Libvirt(), groups).read(reading, {}) == {}
    assert groups.kept == set(GUESTS)


def test_libvirt_is_asked_for_those_alone_that_have_a_monitor() -> None:
    libvirt = Libvirt(xml=STATS)
    read(Choice(libvirt, Groups()))
    assert libvirt.asked == [{"xml"}]


def test_what_libvirt_said_is_why() -> None:
    libvirt = Libvirt()
    libvirt.fails = unavailable("no answer")
    reading = Reading(0, 0, GUESTS, {"xml": {}})
    answers = Choice(libvirt, Groups()).read(reading, {"xml": {}})
    assert answers == {"xml": verdicts.stale("no answer")}


@pytest.mark.parametrize(
    ("counters", "identity"),
    [({"perf.cmt": 1}, 7), ({}, ((7, "vcpus_0"),))],
    ids=["perf", "libvirt"],
)
def test_another_boot_is_another_counter(
    counters: Counters, identity: object
) -> None:
    guests = {"u": guest("instance-1", id=7, xml=MONITORED)}
    stats = {**STATS, "memory.bandwidth.monitor.0.name": "vcpus_0"}
    reading = Reading(0, 0, guests, {"u": counters})
    judged = {"u": dict.fromkeys(counters, verdicts.OK)}
    answers = Choice(Libvirt(u=stats), Groups()).read(reading, judged)
    (usage,) = answers.values()
    assert isinstance(usage, Usage)
    assert usage.identity == identity


def test_groups_of_those_that_run_and_may_have_one_are_kept() -> None:
    """A realtime guest may have none, and one that is off has no threads."""
    guests = {
        "runs": guest("a", id=0),
        "off": guest("b", id=-1),
        "realtime": guest("c", realtime=True),
    }
    groups = Groups()
    Choice(Libvirt(), groups).read(Reading(0, 0, guests, {}), {})
    assert groups.kept == {"runs"}
