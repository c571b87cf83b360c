# SPDX-License-Identifier: Apache-2.0
"""Occupancy and bandwidth mean the same wherever they are read."""

import dataclasses
import errno
import math
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf import privsep
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host import resctrl
from ceilometer_perf.host.resctrl import PREFIX, Resctrl
from ceilometer_perf.rdt import intel_cqm, libvirt_monitors
from ceilometer_perf.rdt.groups import SETTLING, Groups
from ceilometer_perf.rdt.usage import (
    CORE_ENERGY,
    LOCAL,
    OCCUPANCY,
    TOTAL,
    Usage,
)
from ceilometer_perf.reading import Moment
from tests.unit.fakes import READ_AT, guest
from tests.unit.test_processes import Host

MOMENT = Moment(12.5, READ_AT)


class Helper(privsep.Helper):
    """Makes groups as root would; each has one bank that holds 4 bytes."""

    def __init__(self, host: Host, root: Path, rmids: int) -> None:
        (root / "mon_groups").mkdir()
        self._host = host
        self._root = root
        self._rmids = rmids
        self.calls: list[tuple[str, ...]] = []
        self.fails: Exception | None = None

    def watch(self, name: str, instance: str) -> None:
        self.calls.append(("watch", name, instance))
        if self.fails:
            raise self.fails
        group = self._root / "mon_groups" / f"{PREFIX}{instance}"
        if group.exists():
            self._fill(group, name)
            return
        if Resctrl(self._root).in_use() >= self._rmids:
            raise OSError(errno.ENOSPC, "No space left on device")
        bank = group / "mon_data" / "mon_L3_08"
        bank.mkdir(parents=True)
        (bank / "llc_occupancy").write_text("4\n")
        (bank / "mbm_total_bytes").write_text("Unavailable\n")
        self._fill(group, name)

    def _fill(self, group: Path, name: str) -> None:
        tids = self._host.tids(name)
        (group / "tasks").write_text("".join(f"{tid}\n" for tid in tids))

    def release(self, instance: str) -> None:
        self.calls.append(("release", instance))
        if self.fails:
            raise self.fails
        group = self._root / "mon_groups" / f"{PREFIX}{instance}"
        group.rename(self._root / f"removed-{instance}")
        (self._root / f"removed-{instance}").rename(
            self._root.parent / f"removed-{instance}"
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "host").mkdir()
    return Host(tmp_path / "host")


@pytest.fixture
def helper(tmp_path: Path, host: Host) -> Helper:
    (tmp_path / "resctrl").mkdir()
    return Helper(host, tmp_path / "resctrl", rmids=3)


@pytest.fixture
def root(tmp_path: Path, helper: Helper) -> Resctrl:
    return Resctrl(tmp_path / "resctrl")


@dataclasses.dataclass
class Agent:
    """Each is a new one, as after a restart."""

    root: Resctrl
    host: Host
    helper: Helper | None

    def __post_init__(self) -> None:
        self._groups = Groups(self.root, self.host.processes, self.helper)

    def read(self, *names: str, keep: Collection[str] = ()) -> Any:
        """What instances with these names use; they run."""
        for name in names:
            if not self.host.tids(f"instance-{name}"):
                self.host.run_guest(f"instance-{name}")
        guests = {name: guest(f"instance-{name}") for name in names}
        return self._groups.read(guests, keep)


@pytest.fixture
def agent(root: Resctrl, host: Host, helper: Helper) -> Agent:
    return Agent(root, host, helper)


def verdict_of(
    answers: Mapping[str, Usage | Judgement],
) -> dict[str, Verdict | None]:
    return {
        uuid: each.verdict if isinstance(each, Judgement) else None
        for uuid, each in answers.items()
    }


# perf and libvirt's monitors


def test_perf_events() -> None:
    counters = {"perf.cmt": 5, "perf.mbmt": 70, "perf.cpu_cycles": 1}
    found = intel_cqm.usage(3, counters, MOMENT)
    assert found is not None
    assert (found.source, found.identity) == ("perf", 3)
    assert (found.moment, found.by_bank) == (MOMENT, False)
    assert (found.sum(OCCUPANCY), found.sum(TOTAL)) == (5, 70)
    assert found.sum(LOCAL) is None
    assert intel_cqm.usage(3, {"perf.cpu_cycles": 1}, MOMENT) is None


MONITORS: dict[str, Any] = {
    "cpu.time": 1,
    "cpu.cache.monitor.count": 2,
    "cpu.cache.monitor.0.name": "vcpus_0",
    "cpu.cache.monitor.0.vcpus": "0",
    "cpu.cache.monitor.0.bank.count": 2,
    "cpu.cache.monitor.0.bank.0.id": 0,
    "cpu.cache.monitor.0.bank.0.bytes": 10,
    "cpu.cache.monitor.0.bank.1.id": 65,
    "cpu.cache.monitor.0.bank.1.bytes": 20,
    "cpu.cache.monitor.1.name": "vcpus_1",
    "cpu.cache.monitor.1.vcpus": "1",
    "cpu.cache.monitor.1.bank.count": 1,
    "cpu.cache.monitor.1.bank.0.id": 65,
    "cpu.cache.monitor.1.bank.0.bytes": 5,
    "memory.bandwidth.monitor.count": 1,
    "memory.bandwidth.monitor.0.name": "vcpus_0-1",
    "memory.bandwidth.monitor.0.vcpus": "0-1",
    "memory.bandwidth.monitor.0.node.count": 1,
    "memory.bandwidth.monitor.0.node.0.id": 65,
    "memory.bandwidth.monitor.0.node.0.bytes.total": 900,
    "memory.bandwidth.monitor.0.node.0.bytes.local": 600,
}


def test_monitors_are_added_up() -> None:
    found = libvirt_monitors.usage(3, MONITORS)
    assert found is not None
    assert found.source == "libvirt"
    assert found.banks == {
        OCCUPANCY: {0: 10, 65: 25},
        TOTAL: {65: 900},
        LOCAL: {65: 600},
    }
    assert found.sum(OCCUPANCY) == 35


ENERGY: dict[str, Any] = {
    "cpu.energy.monitor.count": 1,
    "cpu.energy.monitor.0.name": "vcpus_0-1",
    "cpu.energy.monitor.0.vcpus": "0-1",
    "cpu.energy.monitor.0.pkg.count": 2,
    "cpu.energy.monitor.0.pkg.0.id": 0,
    "cpu.energy.monitor.0.pkg.0.core_energy": 12.5,
    "cpu.energy.monitor.0.pkg.0.activity": 3.25,
    "cpu.energy.monitor.0.pkg.1.id": 1,
    "cpu.energy.monitor.0.pkg.1.core_energy": 2.0,
    "cpu.energy.monitor.0.pkg.1.activity": 0.5,
}


def test_monitors_of_energy() -> None:
    """As libvirt 12.8 reports them, in J, by package."""
    found = libvirt_monitors.usage(3, {**MONITORS, **ENERGY})
    assert found is not None
    assert found.banks[CORE_ENERGY] == {0: 12.5, 1: 2.0}
    assert found.sum(CORE_ENERGY) == 14.5
    assert found.sum(OCCUPANCY) == 35
    alone = libvirt_monitors.usage(3, ENERGY)
    assert alone is not None
    assert alone.banks == {CORE_ENERGY: {0: 12.5, 1: 2.0}}


@pytest.mark.parametrize(
    "value", [-0.5, math.nan, math.inf, float(1 << 65), "12.5", None]
)
def test_energy_that_is_no_number(value: object) -> None:
    stats = {**ENERGY, "cpu.energy.monitor.0.pkg.1.core_energy": value}
    found = libvirt_monitors.usage(3, stats)
    assert found is not None
    assert found.banks[CORE_ENERGY] == {0: 12.5, 1: None}
    assert found.sum(CORE_ENERGY) is None


def test_monitor_within_another_is_not_counted_twice() -> None:
    whole = {**MONITORS, "cpu.cache.monitor.1.vcpus": "0-1"}
    found = libvirt_monitors.usage(3, whole)
    assert found is not None
    assert found.banks[OCCUPANCY] == {65: 5}


def test_no_monitors_is_nothing() -> None:
    assert libvirt_monitors.usage(3, {"cpu.time": 1}) is None
    assert libvirt_monitors.usage(3, {"cpu.cache.monitor.count": 0}) is None


def test_bank_without_a_number_is_no_zero() -> None:
    assert Usage("resctrl", 1, {TOTAL: {0: 5, 1: None}}).sum(TOTAL) is None


# Groups of our own


def test_groups_are_made_once_and_read(agent: Agent, helper: Helper) -> None:
    for _ in range(3):
        (found,) = agent.read("web").values()
    assert helper.calls == [("watch", "instance-web", "web")]
    assert isinstance(found, Usage)
    assert found.sum(OCCUPANCY) == 4
    assert found.sum(TOTAL) is None
    # Of the group whose tag it has, somebody else's lines may be cached yet.
    assert (found.source, found.settling) == ("resctrl", SETTLING)


def test_threads_that_are_not_in_are_put_in(
    agent: Agent, helper: Helper, host: Host
) -> None:
    """Whatever the reason: a reboot, or somebody who moved them out."""
    agent.read("web")
    host.run_guest("instance-web")
    agent.read("web")
    agent.read("web")
    assert [call[0] for call in helper.calls] == ["watch", "watch"]


def test_groups_of_those_gone_are_removed(
    root: Resctrl, host: Host, helper: Helper
) -> None:
    Agent(root, host, helper).read("web", "db")
    Agent(root, host, helper).read("db")
    assert set(root.ours()) == {"db"}


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (OSError(errno.EBUSY, "busy"), 2),
        (ValueError("no UUID"), 2),
        (RuntimeError("the helper hangs"), 1),
    ],
)
def test_a_helper_that_hangs_is_not_waited_for_by_each_group(
    agent: Agent, helper: Helper, error: Exception, asked: int
) -> None:
    agent.read("web", "db")
    helper.calls.clear()
    helper.fails = error
    agent.read()
    assert [call[0] for call in helper.calls] == ["release"] * asked


def test_what_another_agent_made_is_taken_as_it_is(
    root: Resctrl, host: Host, helper: Helper
) -> None:
    Agent(root, host, helper).read("web")
    helper.calls.clear()
    assert verdict_of(Agent(root, host, helper).read("web")) == {"web": None}
    assert helper.calls == []


def test_group_of_one_that_was_missed_this_once_is_kept(
    agent: Agent, helper: Helper
) -> None:
    agent.read("web")
    agent.read(keep={"web"})
    agent.read("web")
    assert [call[0] for call in helper.calls] == ["watch"]


def test_rmids_run_out_for_the_same_ones_each_time(
    root: Resctrl, host: Host, helper: Helper
) -> None:
    mon = root.root / "info" / "L3_MON"
    mon.mkdir(parents=True)
    (mon / "num_rmids").write_text("176\n")
    first = Agent(root, host, helper)
    first.read("m")
    for agent in (first, first, Agent(root, host, helper)):
        answers = agent.read("z", "m", "a", "b")
        assert verdict_of(answers) == {
            "m": None,
            "a": None,
            "b": Verdict.HOST_LACKS,
            "z": Verdict.HOST_LACKS,
        }
    assert answers["b"] == verdicts.no_rmid(3, 176)
    # One asks, in each cycle, for all who have none.
    assert not [call for call in helper.calls if call[-1] == "z"]


def test_who_has_a_group_is_put_in_again_though_rmids_ran_out(
    agent: Agent, host: Host
) -> None:
    agent.read("m", "x")
    host.run_guest("instance-m")
    assert verdict_of(agent.read("a", "m", "x")) == {
        "a": Verdict.HOST_LACKS, "m": None, "x": None,
    }  # fmt: skip


def test_group_that_somebody_removed_is_made_again(
    agent: Agent, helper: Helper
) -> None:
    before = agent.read("web")["web"]
    again = agent.read("web")["web"]
    helper.release("web")
    after = agent.read("web")["web"]
    assert {each.source for each in (before, again, after)} == {"resctrl"}
    assert before.identity == again.identity != after.identity


def test_group_that_somebody_removes_at_once(
    agent: Agent, helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "watch", lambda name, instance: None)
    assert agent.read("web") == {"web": verdicts.GROUP_REMOVED}


def test_some_of_the_groups_are_not_the_instance(
    agent: Agent, root: Resctrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is removed while it is read, of an instance that has two."""
    agent.read("web")
    other = root.root / "gold" / "mon_groups" / f"{PREFIX}web"
    shutil.copytree(root.root / "mon_groups" / f"{PREFIX}web", other)
    (both,) = agent.read("web").values()
    assert both.sum(OCCUPANCY) == 8
    count = resctrl.count
    monkeypatch.setattr(
        resctrl, "count", lambda path: None if path == other else count(path)
    )
    assert agent.read("web") == {"web": verdicts.GROUP_REMOVED}


def test_a_process_without_threads_is_not_taken_for_one_in_its_group(
    agent: Agent, helper: Helper, host: Host
) -> None:
    agent.read("web")
    process = host.process("instance-web")
    assert process is not None
    shutil.rmtree(host.proc / str(process.pid) / "task")
    helper.calls.clear()
    groups = Groups(agent.root, host.processes, helper)
    groups.read({"web": guest("instance-web")})
    assert helper.calls == [("watch", "instance-web", "web")]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EEXIST, "as pqos"),
         verdicts.monitored(f"[Errno {errno.EEXIST}] as pqos")),
        (RuntimeError("no sudo"),
         verdicts.helper_failed("RuntimeError: no sudo")),
        (ProcessLookupError(errno.ESRCH, "gone"), verdicts.NOT_RUNNING),
    ],
)  # fmt: skip
def test_why_is_said(
    agent: Agent, helper: Helper, error: Exception, why: Judgement
) -> None:
    helper.fails = error
    assert agent.read("web") == {"web": why}


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (OSError(errno.EBUSY, "busy"), Verdict.HOST_LACKS),
        (OSError(errno.EEXIST, "monitored as pqos"), Verdict.HOST_LACKS),
        (ProcessLookupError(errno.ESRCH, "gone"), Verdict.NOT_RUNNING),
        (FileNotFoundError(errno.ENOENT, "not mounted"), Verdict.STALE),
        (RuntimeError("no sudo"), Verdict.STALE),
    ],
)
def test_what_came_in_the_way(
    agent: Agent, helper: Helper, error: Exception, verdict: Verdict
) -> None:
    helper.fails = error
    assert verdict_of(agent.read("web")) == {"web": verdict}
    helper.fails = None
    assert verdict_of(agent.read("web")) == {"web": None}


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (OSError(errno.EEXIST, "monitored as pqos"), 2),
        (RuntimeError("no sudo"), 1),
    ],
)
def test_a_helper_that_fails_for_all_is_asked_once_a_cycle(
    agent: Agent, helper: Helper, error: Exception, asked: int
) -> None:
    helper.fails = error
    assert set(agent.read("web", "db")) == {"web", "db"}
    assert len(helper.calls) == asked


def test_nobody_is_asked_where_resctrl_is_not_mounted(
    tmp_path: Path,
    host: Host,
    helper: Helper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resctrl, "cpus_can_monitor", lambda *_: True)
    nowhere = Agent(Resctrl(tmp_path / "none"), host, helper)
    (why,) = nowhere.read("web").values()
    assert why.verdict is Verdict.HOST_LACKS
    assert why == verdicts.not_mounted(tmp_path / "none")
    assert helper.calls == []
    monkeypatch.setattr(resctrl, "cpus_can_monitor", lambda *_: False)
    (why,) = nowhere.read("web").values()
    assert (why.verdict, why.remedy) == (Verdict.HOST_LACKS, "")


def test_resctrl_without_monitoring_is_not_mounted_again(
    tmp_path: Path, host: Host, helper: Helper
) -> None:
    (tmp_path / "control" / "info" / "L3").mkdir(parents=True)
    control = Agent(Resctrl(tmp_path / "control"), host, helper)
    (why,) = control.read("web").values()
    assert why.verdict is Verdict.HOST_LACKS
    assert "mount" not in why.remedy
    assert "rdt=cmt" in why.remedy


@pytest.mark.parametrize(
    ("cpuinfo", "can"),
    [
        ("flags\t\t: fpu cqm cqm_llc\n", True),
        ("flags\t\t: fpu cqm_llc\n", False),
        ("Features\t: fp asimd\n", True),
        (None, True),
    ],
)
def test_what_cpus_can(tmp_path: Path, cpuinfo: str | None, can: bool) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert resctrl.cpus_can_monitor(tmp_path) is can


def test_that_no_rmid_is_left_shows_without_asking(
    root: Resctrl, host: Host, helper: Helper
) -> None:
    info = root.root / "info" / "L3_MON"
    info.mkdir(parents=True)
    (info / "num_rmids").write_text("1\n")
    (why,) = Agent(root, host, None).read("web").values()
    assert why.verdict is Verdict.HOST_LACKS
    assert "1 of 1 RMIDs" in why.reason
    (info / "num_rmids").write_text("2\n")
    (why,) = Agent(root, host, None).read("web").values()
    assert why.verdict is Verdict.NOT_ENABLED


def test_threads_that_can_not_be_seen_are_not_believed_in(
    agent: Agent, helper: Helper, host: Host
) -> None:
    agent.read("web")
    shutil.rmtree(host.proc)
    groups = Groups(agent.root, host.processes, helper)
    answers = groups.read({"web": guest("instance-web")})
    assert verdict_of(answers) == {"web": Verdict.IN_DOUBT}


def test_who_only_looks_makes_and_removes_nothing(
    root: Resctrl, host: Host, helper: Helper
) -> None:
    Agent(root, host, helper).read("web", "gone")
    answers = Agent(root, host, None).read("web", "new")
    assert verdict_of(answers) == {"web": None, "new": Verdict.NOT_ENABLED}
    assert set(root.ours()) == {"web", "gone"}
