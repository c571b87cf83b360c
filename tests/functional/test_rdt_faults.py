# SPDX-License-Identifier: Apache-2.0
"""Groups of our own where RMIDs are few, or resctrl comes and goes."""

import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.host import resctrl
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.host.watching import Watching
from ceilometer_perf.rdt.groups import Groups
from ceilometer_perf.rdt.usage import Usage
from ceilometer_perf.reading import Guest
from tests.functional.machine import Machine
from tests.lab.resctrl import mount

RMIDS = 64
OURS = RMIDS - 1  # the default group has one


class Host:
    """Processes that pass for QEMUs, in a resctrl."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.run = machine.folder / "run"
        self.run.mkdir()
        self._processes: list[subprocess.Popen[bytes]] = []

    def boot(self, count: int) -> Mapping[str, Guest]:
        booted = {}
        for _ in range(count):
            name = f"web-{len(self._processes)}"
            instance = str(uuid.uuid4())
            process = subprocess.Popen(
                ["sh", "-c", "read line", "-uuid", instance],
                stdin=subprocess.PIPE,
            )
            self._processes.append(process)
            (self.run / f"{name}.pid").write_text(str(process.pid))
            booted[instance] = Guest(
                name=name, id=1, xml="<domain/>", realtime=False, slice=None
            )
        return booted

    def agent(self) -> Groups:
        """What one that was just started has."""
        root = self.machine.root
        return Groups(
            Resctrl(root), Processes(self.run), Watching(root, self.run)
        )

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def host(machine: Machine) -> Iterator[Host]:
    host = Host(machine)
    yield host
    host.end()


def read(agent: Groups, guests: Mapping[str, Guest]) -> set[str]:
    """Who was read; the others have to be left out for want of RMIDs."""
    answers = agent.read(guests)
    for answer in answers.values():
        if isinstance(answer, Judgement):
            assert answer.verdict is Verdict.HOST_LACKS
            assert f"{RMIDS} of {RMIDS} RMIDs" in answer.reason
    return {u for u, a in answers.items() if isinstance(a, Usage)}


def test_200_instances_and_64_rmids(host: Host) -> None:
    guests = dict(host.boot(200))
    agent = host.agent()
    had = read(agent, guests)
    assert had == set(sorted(guests)[:OURS])
    for _ in range(3):
        assert read(agent, guests) == had
    assert read(host.agent(), guests) == had
    # Of those that wait the next ones take what is set free, and no more.
    for gone in sorted(had)[10:13]:
        del guests[gone]
    now = read(agent, guests)
    assert now - had == set(sorted(guests)[OURS - 3 : OURS]) - had
    assert len(now - had) == 3
    assert now >= had & set(guests)
    # Whoever comes later takes nothing away, whatever its UUID is.
    guests |= host.boot(20)
    assert read(agent, guests) == read(host.agent(), guests) == now
    assert set(Resctrl(host.machine.root).ours()) == now


def test_unmounted_and_mounted_again(host: Host) -> None:
    guests = host.boot(3)
    agent = host.agent()
    before = agent.read(guests)
    assert all(isinstance(answer, Usage) for answer in before.values())
    mount.end(host.machine.folder)
    (why,) = set(agent.read(guests).values())
    assert isinstance(why, Judgement)
    assert why.verdict is Verdict.HOST_LACKS
    # Not on a host whose CPUs could not monitor.
    possible = resctrl.cpus_can_monitor()
    assert ("mount -t resctrl" in why.remedy) is possible
    host.machine.root.rmdir()
    mount.start(host.machine.folder, host.machine.hardware)
    after = agent.read(guests)
    assert all(isinstance(answer, Usage) for answer in after.values())
    assert set(Resctrl(host.machine.root).ours()) == set(guests)


def test_mount_point_that_is_gone(host: Host) -> None:
    guests = host.boot(1)
    agent = host.agent()
    mount.end(host.machine.folder)
    Path(host.machine.root).rmdir()
    (why,) = agent.read(guests).values()
    assert isinstance(why, Judgement)
    assert why.verdict is Verdict.HOST_LACKS
