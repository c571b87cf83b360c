# SPDX-License-Identifier: Apache-2.0
"""What the judgement is given, what is published of it, and what is kept."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.monitor import Report
from ceilometer_perf.counters.trust import Judged
from ceilometer_perf.host.topology import Topology
from ceilometer_perf.meters import (
    BANDWIDTH_TOTAL,
    CACHE_MPKI,
    CULPRIT,
    IPC,
    L3_CACHE,
    VICTIM,
)
from ceilometer_perf.neighbours.history import NEEDED
from ceilometer_perf.neighbours.judge import CYCLES
from ceilometer_perf.neighbours.kept import SELDOM, Kept, said
from ceilometer_perf.neighbours.look import Neighbours
from ceilometer_perf.neighbours.waiting import Vcpus, WaitingReport
from ceilometer_perf.rdt.look import RdtReport
from ceilometer_perf.reading import Moment, Published, Reading
from tests.unit.fakes import READ_AT, guest

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
                    values, moment, {"source": "own", "since": "x"}
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
