# SPDX-License-Identifier: Apache-2.0
"""What the judgement is given, what is published of it, and what is kept."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.monitor import Report
from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.host.topology import Topology
from ceilometer_perf.meters import (
    BANDWIDTH_TOTAL,
    CACHE_MPKI,
    CULPRIT,
    IPC,
    L3_CACHE,
    VICTIM,
    WITHHELD,
)
from ceilometer_perf.neighbours import look
from ceilometer_perf.neighbours.history import NEEDED
from ceilometer_perf.neighbours.judge import CYCLES, Found, Interference
from ceilometer_perf.neighbours.kept import SELDOM, Kept, said
from ceilometer_perf.neighbours.look import Neighbours
from ceilometer_perf.neighbours.observation import Observation
from ceilometer_perf.neighbours.waiting import Vcpus, WaitingReport
from ceilometer_perf.rdt.look import RdtReport
from ceilometer_perf.reading import Moment, Published, Reading
from tests.unit.fakes import READ_AT, guest

#: All that is computed has its events.
OK = Judged(
    dict.fromkeys(
        ("perf.cpu_cycles", "perf.instructions", "perf.cache_misses"),
        verdicts.OK,
    ),
    None,
    READ_AT,
)
CPUS = {"v": 0, "c": 2}
MIB = 1 << 20


class FakeTopology(Topology):
    """Four CPUs with one L3 cache; threads are called as their CPUs."""

    def __init__(self) -> None:
        self.siblings = {}
        self.l3 = dict.fromkeys(range(4), 0)
        self._known = set(range(4))

    def ran_on(self, threads: Any) -> frozenset[int]:
        return frozenset(threads)

    allowed = ran_on


class Host:
    """A victim and a culprit, read once a minute."""

    def __init__(self, tmp_path: Path) -> None:
        self.now = 1000.0
        self.boot = tmp_path / "boot_id"
        self.boot.write_text("this boot\n")
        self.path = tmp_path / "kept.json"
        self.counted = {
            name: {IPC.key: 1.0, CACHE_MPKI.key: 2.0} for name in CPUS
        }
        self.used = {name: {0: 8.0 * MIB} for name in CPUS}
        self.moved = dict.fromkeys(CPUS, 1e9)
        self.since: Callable[[], str] = lambda: "x"
        self.judged: dict[str, Judged] = {}
        self.whys: dict[str, Any] = {}
        self.vcpus = {
            name: Vcpus((cpu, 1), frozenset({cpu}), 0.5, 0.0)
            for name, cpu in CPUS.items()
        }
        self.guests = {name: guest(f"i-{name}") for name in CPUS}
        self.begin()

    def begin(self) -> None:
        self.neighbours = Neighbours(
            FakeTopology(), Kept(self.path, self.boot)
        )

    def look(
        self, times: int = 1, after: float = 60.0
    ) -> Mapping[str, Published]:
        for _ in range(times):
            self.now += after
            moment = Moment(self.now, READ_AT)
            reading = Reading(self.now, self.now, self.guests, {}, READ_AT)
            published = {
                name: Published(
                    values, moment, {"source": "own", "since": self.since()}
                )
                for name, values in self.counted.items()
            }
            rdt = {
                name: Published(
                    {
                        L3_CACHE.key: sum(banks.values()),
                        BANDWIDTH_TOTAL.key: 1.0,
                    },
                    moment,
                    {"source": "resctrl", "since": "x"},
                    {
                        L3_CACHE.key: {
                            "banks": {str(b): n for b, n in banks.items()}
                        },
                        BANDWIDTH_TOTAL.key: {
                            "banks": {"0": self.moved[name]}
                        },
                    },
                )
                for name, banks in self.used.items()
            }
            found = self.neighbours.look(
                Report(reading, published, self.judged, {}),
                RdtReport(rdt, self.whys),
                WaitingReport({}, self.vcpus),
            )
        return found.published

    def report(
        self, judged: Mapping[str, Judged],
        unread: Mapping[str, Judgement] = MappingProxyType({}),
    ) -> Report:  # fmt: skip
        reading = Reading(1, 1, self.guests, {}, READ_AT)
        return Report(reading, {}, judged, unread)

    def harm(self) -> None:
        self.counted["v"] = {IPC.key: 0.5, CACHE_MPKI.key: 12.0}
        self.used["v"] = {0: 2.0 * MIB}
        self.used["c"] = {0: 20.0 * MIB}
        self.moved["c"] = 4e9


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_is_published(host: Host) -> None:
    host.look(NEEDED + 10)
    host.harm()
    found = host.look(CYCLES)
    assert found["v"].values == {VICTIM.key: 0.5, CULPRIT.key: 0.0}
    assert found["c"].values == {VICTIM.key: 0.0, CULPRIT.key: 1.0}
    victim, culprit = (
        found["v"].about(VICTIM.key),
        found["c"].about(CULPRIT.key),
    )
    assert (victim["cause"], victim["partner"]) == ("llc", "c")
    assert (culprit["cause"], culprit["partner"]) == ("llc", "v")
    assert victim["evidence"] == culprit["evidence"]
    assert victim["evidence"]["mpki"] == 12.0
    assert victim["source"] == "neighbours"
    assert "cause" not in found["v"].about(CULPRIT.key)


def test_nobody_is_called_a_victim_or_not_too_early(host: Host) -> None:
    found = host.look(NEEDED)
    assert found["v"].values == {CULPRIT.key: 0.0}
    why = f"{NEEDED} of {NEEDED} cycles of history"
    assert found["v"].about(VICTIM.key)["untold"] == {
        "llc/bandwidth/smt": why, "cpu": why,
    }  # fmt: skip


def test_two_looks_at_once_are_one_cycle(host: Host) -> None:
    host.look(NEEDED + 10)
    host.harm()
    host.look()
    assert host.look(CYCLES, after=0.1)["v"].values[VICTIM.key] == 0
    assert host.look(CYCLES)["v"].values[VICTIM.key] == 0.5


def test_a_judgement_is_as_old_as_its_counters(host: Host) -> None:
    assert host.look()["v"].moment == Moment(host.now, READ_AT)


def test_who_does_not_run_is_left_out(host: Host) -> None:
    host.guests["v"] = guest("i-v", id=-1)
    host.guests["c"] = guest("i-c", id=0)
    assert host.look().keys() == {"c"}


def untold(host: Host) -> Mapping[str, str]:
    told: Mapping[str, str] = host.look(NEEDED + 10)["v"].about(VICTIM.key)[
        "untold"
    ]
    return told


def test_counters_that_are_withheld(host: Host) -> None:
    del host.counted["v"]
    judgements = {
        "perf.cpu_cycles": verdicts.RESTARTED,
        "perf.instructions": verdicts.OK,
    }
    host.judged["v"] = Judged(judgements, None, READ_AT)
    told = untold(host)["llc/bandwidth/smt"]
    assert told.startswith("cpu_cycles: detached: ")
    assert "reboot" not in told


def test_counters_that_can_not_be_opened_begin_nothing(host: Host) -> None:
    """Each cycle they would begin then; who waits for a CPU shows anyhow."""
    host.since = lambda: str(host.now)
    host.counted = {name: {WITHHELD.key: 3.0} for name in CPUS}
    host.look(NEEDED + 10)
    cpu = frozenset({0})
    host.vcpus["v"] = Vcpus((0, 1), cpu, 0.5, 0.5)
    host.vcpus["c"] = Vcpus((2, 1), cpu, 1.0, 0.0)
    assert host.look(CYCLES)["v"].values[VICTIM.key] == 0.5


def test_events_that_are_not_counted(host: Host) -> None:
    del host.counted["v"]
    assert untold(host) == {"llc/bandwidth/smt": "cpu_cycles is not counted"}


def test_instances_that_are_not_read(host: Host) -> None:
    for _ in range(NEEDED + 2):
        host.now += 60
        report = Report(
            Reading(host.now, host.now, host.guests, {}, READ_AT), {}, {},
            {"v": verdicts.REALTIME, "c": verdicts.REALTIME},
        )  # fmt: skip
        found = host.neighbours.look(
            report, RdtReport(), WaitingReport({}, host.vcpus)
        )
    told = found.published["v"].about(VICTIM.key)["untold"]
    assert told["llc/bandwidth/smt"].startswith("realtime: ")
    # It may wait for a CPU all the same, and that can be told.
    assert found.published["v"].values[VICTIM.key] == 0


def test_rmids_that_are_out(host: Host) -> None:
    host.look(NEEDED + 10)
    why = verdicts.host_lacks("no RMID is free")
    del host.used["v"]
    host.whys["v"] = {L3_CACHE.key: why, BANDWIDTH_TOTAL.key: why}
    host.look(10)
    host.counted["v"] = {IPC.key: 0.5, CACHE_MPKI.key: 12.0}
    found = host.look(CYCLES)["v"]
    assert VICTIM.key not in found.values
    assert found.about(VICTIM.key)["untold"] == {
        "llc": "host_lacks: no RMID is free",
        "bandwidth": "host_lacks: no RMID is free",
    }


def test_a_process_that_can_not_be_seen(host: Host) -> None:
    del host.vcpus["v"]
    found = host.look()["v"]
    assert found.about(VICTIM.key)["untold"] == {
        "llc/bandwidth/smt": "its process can't be seen",
        "cpu": "its process can't be seen",
    }


def test_numbers_of_the_only_cache(host: Host) -> None:
    host.look()
    published = Published({L3_CACHE.key: 5.0}, Moment(1, READ_AT), {})
    assert host.neighbours._banks(published, L3_CACHE) == {0: 5.0}
    host.neighbours._topology.l3 = {0: 0, 1: 1}
    assert host.neighbours._banks(published, L3_CACHE) is None


# What each part comes from


class Placed(FakeTopology):
    """Threads are called as their CPUs, and may run on the next one, too."""

    def __init__(self) -> None:
        super().__init__()
        self.l3 = {0: 7, 1: 8, 2: 9}

    def allowed(self, threads: Any) -> frozenset[int]:
        return frozenset(threads) | {max(threads) + 1}


def observed(
    host: Host, counted: Published | None = None,
    used: Published | None = None,
) -> Observation:  # fmt: skip
    reading = Reading(1, 1, host.guests, {}, READ_AT)
    report = Report(reading, {"v": counted} if counted else {}, {}, {})
    host.neighbours = Neighbours(Placed(), None)
    return host.neighbours._observe(
        "v",
        report,
        RdtReport({"v": used} if used else {}),
        Vcpus((42, 7), frozenset({0, 1}), 0.75, 0.25),
    )


def published(since: str, **values: float) -> Published:
    metadata = {"source": "own", "since": since, "more": 1}
    return Published(values, Moment(1, READ_AT), metadata)


def test_an_observation_is_put_together(host: Host) -> None:
    counted = published("x", **{IPC.key: 0.8, CACHE_MPKI.key: 2.5})
    used = Published(
        {L3_CACHE.key: 3.0, BANDWIDTH_TOTAL.key: 7.0},
        Moment(1, READ_AT),
        {"source": "resctrl", "since": "y"},
        {
            L3_CACHE.key: {"banks": {"7": 1.0, "8": 2.0}},
            BANDWIDTH_TOTAL.key: {"banks": {"7": 3.0, "8": 4.0}},
        },
    )
    found = observed(host, counted, used)
    assert dataclasses.replace(found, missing={}) == Observation(
        process=(42, 7),
        counting=(("own", "x"), ("resctrl", "y")),
        vcpus=2,
        cpus=0.75,
        waited=0.25,
        cpi=1.25,
        mpki=2.5,
        occupancy={7: 1.0, 8: 2.0},
        bandwidth={7: 3.0, 8: 4.0},
        ran_on=frozenset({0, 1}),
        allowed=frozenset({0, 1, 2}),
        domains=frozenset({7, 8}),
        reach=frozenset({7, 8, 9}),
    )


def test_of_what_there_is_nothing(host: Host) -> None:
    found = observed(host)
    assert found.counting == (None, None)
    nothing = {
        name: (getattr(found, name), found.why_not(name))
        for name in ("cpi", "mpki", "occupancy", "bandwidth")
    }
    assert nothing == {
        "cpi": (None, "cpu_cycles is not counted"),
        "mpki": (None, "cache_misses is not counted"),
        "occupancy": (None, "it is not known by L3 cache"),
        "bandwidth": (None, "it is not known by L3 cache"),
    }
    idle = published("x", **{IPC.key: 0.0})
    assert observed(host, idle).cpi is None


def test_what_has_one_reading_only(host: Host) -> None:
    host.vcpus["v"] = Vcpus((0, 1), frozenset({0}))
    assert untold(host)["cpu"] == "there is no second reading yet"
    found = host.neighbours._observe(
        "v", host.report({"v": OK}), RdtReport({}), host.vcpus["v"]
    )
    for name in ("cpus", "waited", "cpi", "mpki"):
        assert found.why_not(name) == "there is no second reading yet"


def test_each_event_of_a_ratio_may_be_the_reason(host: Host) -> None:
    judgements = {**OK.judgements, "perf.instructions": verdicts.FELL}
    judged = {"v": dataclasses.replace(OK, judgements=judgements)}
    found = host.neighbours._observe(
        "v", host.report(judged), RdtReport({}), host.vcpus["v"]
    )
    for name in ("cpi", "mpki"):
        assert str(found.why_not(name)).startswith("instructions: ")


def test_the_judge_knows_which_threads_share_a_core(host: Host) -> None:
    topology = FakeTopology()
    topology.siblings = {0: frozenset({1}), 1: frozenset({0})}
    host.neighbours = Neighbours(topology, None)
    host.look(NEEDED + 10)
    host.counted["v"] = {IPC.key: 0.6, CACHE_MPKI.key: 2.0}
    host.vcpus["c"] = Vcpus((2, 1), frozenset({1}), 1.0, 0.0)
    found = host.look(CYCLES)["v"].about(VICTIM.key)
    assert (found["cause"], found["partner"]) == ("smt", "c")


def test_who_is_not_read_is_why(host: Host) -> None:
    report = host.report({}, unread={"v": verdicts.REALTIME})
    found = host.neighbours._observe(
        "v", report, RdtReport({}), host.vcpus["v"]
    )
    assert str(found.why_not("cpi")).startswith("realtime: ")
    assert str(found.why_not("mpki")).startswith("realtime: ")


def test_meters_of_caches_have_reasons_of_their_own(host: Host) -> None:
    whys = {
        L3_CACHE.key: verdicts.MONITOR_UNREAD,
        BANDWIDTH_TOTAL.key: verdicts.NO_NUMBER,
    }
    found = host.neighbours._observe(
        "v", host.report({}), RdtReport({}, {"v": whys}), host.vcpus["v"]
    )
    for name, why in (
        ("occupancy", verdicts.MONITOR_UNREAD),
        ("bandwidth", verdicts.NO_NUMBER),
    ):
        assert found.why_not(name) == f"{why.verdict.value}: {why.reason}"


def test_of_several_the_worst_and_the_surest_are_published(
    host: Host,
) -> None:
    def harm(victim: str, culprit: str, loss: float, sure: float) -> Any:
        cause = f"{victim}{culprit}{loss}"
        return Interference(victim, culprit, cause, loss, sure, 3, {"x": 1.5})

    found = Found(
        [
            harm("v", "c", 0.212345, 0.9),
            harm("v", "d", 0.512345, 0.4),
            harm("w", "c", 0.3, 0.912345),
            harm("d", "v", 0.3, 0.5),
        ],
        frozenset("vw"),
        {"v": {"llc": "why"}},
    )
    host.guests["v"] = guest("i-v", slice="half")
    report = host.report({})
    moment = Moment(7.0, READ_AT)
    victim = look._publish("v", report, found, moment)
    assert victim.values == {CULPRIT.key: 0.5, VICTIM.key: 0.5123}
    assert victim.moment is moment
    assert victim.metadata == {"source": "neighbours", "slice": "half"}
    assert victim.details == {
        VICTIM.key: {
            "cause": "vd0.512345",
            "partner": "d",
            "evidence": found.interferences[1].numbers(),
            "untold": {"llc": "why"},
        },
        CULPRIT.key: {
            "cause": "dv0.3",
            "partner": "d",
            "evidence": found.interferences[3].numbers(),
        },
    }
    culprit = look._publish("c", report, found, moment)
    assert culprit.values == {CULPRIT.key: 0.9123}
    assert culprit.details[CULPRIT.key]["partner"] == "w"
    assert culprit.details[VICTIM.key] == {}


@pytest.mark.parametrize(("after", "again"), [(0.49, True), (0.5, False)])
def test_how_near_two_looks_are_one(
    host: Host, after: float, *, again: bool
) -> None:
    first = host.look()["v"]
    assert (host.look(after=after)["v"] is first) is again


def test_without_a_file_nothing_is_kept(host: Host) -> None:
    host.neighbours = Neighbours(FakeTopology(), None)
    assert host.look().keys() == {"v", "c"}
    assert not host.path.exists()


# The file


def test_what_is_found_is_kept(host: Host) -> None:
    host.look(NEEDED + 10)
    host.harm()
    host.look(CYCLES)
    kept = said(host.path)
    (one,) = kept.found.interferences
    assert (one.victim, one.culprit, one.cause) == ("v", "c", "llc")
    assert kept.names == {"v": "i-v", "c": "i-c"}
    assert kept.found.judged == {"v", "c"}
    assert datetime.now(UTC) - kept.at < datetime.now(UTC) - READ_AT
    assert list(host.path.parent.glob(".*")) == []


def test_the_next_agent_goes_on(host: Host) -> None:
    host.look(NEEDED + 10)
    host.look(after=SELDOM)
    host.begin()
    assert host.look()["v"].values[VICTIM.key] == 0
    host.look(10)
    host.harm()
    assert host.look(CYCLES)["v"].values[VICTIM.key] == 0.5


def test_another_boot_of_the_host_begins_again(host: Host) -> None:
    host.look(NEEDED + 10)
    host.look(after=SELDOM)
    host.boot.write_text("another\n")
    host.begin()
    assert VICTIM.key not in host.look()["v"].values


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "nonsense", '{"boot": "this boot", "usual": 1}',
        '{"boot": ' + "[" * 100_000,
    ],
    ids=range(6),
)  # fmt: skip
def test_a_file_that_is_none_is_overwritten(
    host: Host, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.path.write_text(text)
    host.begin()
    host.look(2)
    assert said(host.path).names == {"v": "i-v", "c": "i-c"}
    assert caplog.text.count("is learned again") == 1


def test_a_folder_that_is_none_is_told_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.neighbours = Neighbours(
        FakeTopology(), Kept(host.path / "no" / "kept.json", host.boot)
    )
    assert host.look(3).keys() == {"v", "c"}
    assert caplog.text.count("can't be written (No such file") == 1


@pytest.mark.parametrize("text", ["[]", "{}", '{"at": 1}', "x"])
def test_what_the_agent_did_not_write_is_refused(
    host: Host, text: str
) -> None:
    host.path.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011
        said(host.path)


def test_the_kept_is_json(host: Host) -> None:
    host.look(2)
    assert json.loads(host.path.read_text())["usual"]["lives"].keys() == {
        "v",
        "c",
    }
    assert dataclasses.asdict(host.vcpus["v"])["process"] == (0, 1)
