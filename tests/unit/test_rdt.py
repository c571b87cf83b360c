# SPDX-License-Identifier: Apache-2.0
"""What is published of caches and memory, and what is said about it."""

import dataclasses
import logging
import tracemalloc
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.monitor import Report
from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.meters import RDT_KEYS
from ceilometer_perf.rdt import tune
from ceilometer_perf.rdt.choice import Answers
from ceilometer_perf.rdt.look import Rdt, RdtReport
from ceilometer_perf.rdt.usage import CORE_ENERGY, OCCUPANCY, TOTAL, Usage
from ceilometer_perf.reading import Reading
from tests.unit.fakes import guest

TUNED = """
<domain><cputune><cachetune vcpus="0">
  <cache id="0" level="3" type="both" size="3" unit="MiB"/>
  <cache id="1" level="3" type="both" size="512" unit="KiB"/>
  <cache id="0" level="2" type="both" size="3" unit="MiB"/>
  <monitor level="3" vcpus="0"/>
</cachetune></cputune></domain>
"""
GUESTS = {
    "web": guest("instance-1", xml=TUNED, slice="half-0"),
    "db": guest("instance-2"),
}
OK = Judged({}, None, datetime.now(UTC))
REPORT = Report(
    Reading(0, 0, GUESTS, {uuid: {} for uuid in GUESTS}),
    {},
    dict.fromkeys(GUESTS, OK),
    {},
)


class FakeChoice:
    def __init__(self, *answers: Mapping[str, Usage | Judgement]) -> None:
        self._answers = list(answers)

    def read(
        self, reading: Reading, judged: object
    ) -> Mapping[str, Usage | Judgement]:
        return self._answers.pop(0)


class Host:
    """``clock`` moves on by ten seconds with each look."""

    def __init__(self, *answers: Mapping[str, Usage | Judgement]) -> None:
        self._rdt = Rdt(
            FakeChoice(*answers),  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
        )
        self._clock = 0.0
        self.sizes = {0: 3000, 1: 1000}

    def l3(self, seen: frozenset[int]) -> Mapping[int, int]:
        self.seen = seen
        return self.sizes

    def look(self, monkeypatch: pytest.MonkeyPatch) -> RdtReport:
        self._clock += 10
        monkeypatch.setattr("time.monotonic", lambda: self._clock)
        return self._rdt.look(REPORT)


def usage(grown: int = 0) -> Usage:
    return Usage(
        "libvirt",
        1,
        {OCCUPANCY: {0: 900, 1: 100}, TOTAL: {0: grown, 1: 2 * grown}},
    )


def test_values_metadata_and_verdicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Host({"web": usage()}, {"web": usage(100)})
    first = host.look(monkeypatch)
    assert set(first.published["web"].values) == {
        "cpu_l3_cache",
        "cpu_l3_cache.util",
    }
    assert {
        key: judgement.verdict
        for key, judgement in first.judged["web"].items()
    } == {
        "cpu_l3_cache": Verdict.OK,
        "cpu_l3_cache.util": Verdict.OK,
        "memory.bandwidth.total": Verdict.NEW,
        "memory.bandwidth.local": Verdict.HOST_LACKS,
        "perf.energy": Verdict.NOT_ENABLED,
        "perf.power": Verdict.NOT_ENABLED,
    }
    second = host.look(monkeypatch)
    published = second.published["web"]
    assert published.values == {
        "cpu_l3_cache": 1000,
        "cpu_l3_cache.util": 25.0,
        "memory.bandwidth.total": 30.0,
    }
    about = published.about("cpu_l3_cache.util")
    assert (about["source"], about["slice"]) == ("libvirt", "half-0")
    assert about["banks"] == {"0": 30.0, "1": 10.0}
    assert about["reserved"] == {"0": 3 << 20, "1": 512 << 10}
    assert about["since"] == first.published["web"].metadata["since"]
    banks = published.about("memory.bandwidth.total")["banks"]
    assert banks == {"0": 10.0, "1": 20.0}
    assert host.seen == {0, 1}


def test_what_could_not_be_read_is_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unread = Usage(
        "libvirt", 1, {TOTAL: {0: 5}}, unread=frozenset({OCCUPANCY})
    )
    judged = Host({"web": unread}).look(monkeypatch).judged["web"]
    assert judged["cpu_l3_cache"] is verdicts.MONITOR_UNREAD
    assert judged["cpu_l3_cache.util"] is verdicts.MONITOR_UNREAD
    assert judged["memory.bandwidth.total"].verdict is Verdict.NEW
    assert judged["memory.bandwidth.local"] is verdicts.NO_NUMBER


def test_a_counter_that_leaps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    leap = 1 << 50
    host = Host(
        *({"web": usage(n), "db": usage()} for n in (1, leap, leap + 10))
    )
    host.look(monkeypatch)
    leapt = host.look(monkeypatch)
    judged = leapt.judged["web"]["memory.bandwidth.total"]
    assert judged.verdict is Verdict.IMPLAUSIBLE
    assert "2.25e+14 B/s" in judged.reason
    assert "memory.bandwidth.total" not in leapt.published["web"].values
    assert leapt.judged["web"]["cpu_l3_cache"] is verdicts.OK
    again = host.look(monkeypatch)
    assert again.published["web"].values["memory.bandwidth.total"] == 3
    texts = [record.getMessage() for record in caplog.records]
    begun, ended = (text for text in texts if "instance web" in text)
    assert "implausible" in begun
    assert ended.endswith("ok")


def test_perf_events_are_as_old_as_their_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long after it the agent comes to ask."""
    by_perf = Usage(
        "perf",
        1,
        {OCCUPANCY: {0: 900}},
        moment=REPORT.reading.moment,
        by_bank=False,
    )
    host = Host({"web": by_perf, "db": usage()})
    report = host.look(monkeypatch)
    assert report.published["web"].moment == REPORT.reading.moment
    assert report.published["db"].moment.taken_at == 10
    assert "banks" not in report.published["web"].about("cpu_l3_cache")


def test_another_counter_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Host(
        *(
            {"web": dataclasses.replace(usage(n), identity=identity)}
            for n, identity in ((100, "one"), (200, "two"), (300, "two"))
        )
    )
    first = host.look(monkeypatch).published["web"]
    after = host.look(monkeypatch).published["web"]
    assert "memory.bandwidth.total" not in after.values
    assert after.metadata["since"] != first.metadata["since"]
    again = host.look(monkeypatch).published["web"]
    assert again.values["memory.bandwidth.total"] == 30
    assert again.metadata["since"] == after.metadata["since"]


def test_no_cache_declared_is_no_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Host({"web": usage()})
    host.sizes = {}
    report = host.look(monkeypatch)
    assert set(report.published["web"].values) == {"cpu_l3_cache"}
    assert report.judged["web"]["cpu_l3_cache.util"] is verdicts.NO_L3


def test_one_instance_s_trouble_is_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trouble: Answers = {"web": verdicts.MONITOR_UNREAD, "db": usage()}
    host = Host(trouble, trouble, {"web": usage(), "db": usage()})
    report = host.look(monkeypatch)
    assert set(report.published) == {"db"}
    assert report.judged["web"] == dict.fromkeys(
        RDT_KEYS, verdicts.MONITOR_UNREAD
    )
    host.look(monkeypatch)
    host.look(monkeypatch)
    bad, good = (record.getMessage() for record in caplog.records)
    assert bad.startswith("instance web (instance-1): L3 occupancy")
    assert "stale" in bad
    assert good.endswith("memory bandwidth: ok")


def test_everybody_s_trouble_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    none = dict.fromkeys(GUESTS, verdicts.not_mounted("/sys/fs/resctrl"))
    both = {"web": usage(), "db": usage()}
    host = Host(none, none, both, {}, none)
    for _ in range(5):
        host.look(monkeypatch)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert all(line.startswith("every instance: ") for line in lines)
    assert [("host_lacks" in line) for line in lines] == [True, False, True]


def test_what_the_xml_says_of_caches() -> None:
    assert tune.has_monitors(TUNED)
    assert not tune.has_monitors("<domain/>")
    # Of something else.
    other = "<domain><devices><monitor/></devices></domain>"
    assert not tune.has_monitors(other)
    assert tune.reserved("<domain/>") == {}


def test_xml_of_instances_that_come_and_go_is_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(3000):
            xml = f"<domain><name>{number:9}</name>{' ' * 10_000}</domain>"
            assert not tune.has_monitors(xml)
            assert tune.reserved(xml) == {}
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


@pytest.mark.parametrize("broken", ["<monitor", "<cachetune"])
def test_xml_that_can_not_be_read_says_nothing(broken: str) -> None:
    assert not tune.has_monitors(broken)
    assert tune.reserved(broken) == {}


def test_a_reserved_part_of_no_size_is_none() -> None:
    cache = "<cache id='{}' level='3' size='{}'/>"
    document = (
        "<domain><cputune><cachetune vcpus='0'>"
        + cache.format(0, "x") + cache.format("", 5) + cache.format(1, 7)
        + "</cachetune></cputune></domain>"
    )  # fmt: skip
    assert tune.reserved(document) == {1: 7}


def test_parts_of_one_cache_are_added_up() -> None:
    """Each by libvirt's units; what says nothing of them is in bytes."""
    caches = "".join(
        f"<cache level='3' {each}/>"
        for each in (
            "id='0' size='3' unit='MiB'",
            "id='0' size='512' unit='KiB'",
            "id='1' size='7'",
            "size='1' unit='B'",
            "id='2'",
            "id='3' size='5' unit='parsec'",
        )
    )
    document = (
        f"<domain><cputune><cachetune>{caches}</cachetune>"
        f"<cachetune><cache level='3' id='1' size='2'/></cachetune></cputune>"
        "</domain>"
    )
    assert tune.reserved(document) == {
        0: 3 * 1024**2 + 512 * 1024 + 1, 1: 9, 2: 0, 3: 5,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["cachetune", "memorytune", "energytune"])
def test_a_monitor_of_any_kind(kind: str) -> None:
    document = (
        f"<domain><vcpu>2</vcpu><cputune><{kind}><monitor/></{kind}>"
        "</cputune></domain>"
    )
    assert tune.has_monitors(document)
    assert tune.vcpus(document) == {0, 1}
    elsewhere = document.replace("cputune", "metadata")
    assert not tune.has_monitors(elsewhere)


def test_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    def used(*joules: float | None) -> Usage:
        return Usage("resctrl", 1, {CORE_ENERGY: dict(enumerate(joules))})

    host = Host(*({"web": used(*x)} for x in ((5.5, 1.0), (8.0, 2.0))))
    first = host.look(monkeypatch)
    assert first.published["web"].values == {"perf.energy": 0.0}
    assert first.judged["web"]["perf.power"] is verdicts.NEW
    second = host.look(monkeypatch)
    published = second.published["web"]
    assert published.values == {"perf.energy": 3.5, "perf.power": 0.35}
    assert published.about("perf.energy")["banks"] == {"0": 2.5, "1": 1.0}
    assert second.judged["web"]["perf.energy"] is verdicts.OK
    # Of CPUs that count none.
    report = Host({"web": Usage("resctrl", 1, {TOTAL: {0: 1}})}).look(
        monkeypatch
    )
    assert report.judged["web"]["perf.energy"] is verdicts.NO_NUMBER
    report = Host({"web": Usage("libvirt", 1, {TOTAL: {0: 1}})}).look(
        monkeypatch
    )
    assert report.judged["web"]["perf.energy"] is verdicts.NO_ENERGY
    mute = Host({"web": used(None, 1.0)}).look(monkeypatch)
    assert mute.judged["web"]["perf.energy"] is verdicts.NO_NUMBER
    assert mute.published["web"].values == {}
