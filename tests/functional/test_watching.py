# SPDX-License-Identifier: Apache-2.0
"""Instances in resctrl groups of ours, put there by the privileged helper."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ceilometer_perf.host import resctrl
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.host.watching import Watching
from tests.functional.agent import wait_for
from tests.functional.helper import HELPER, Client, configuration
from tests.functional.machine import (
    QUICK,
    Busy,
    Machine,
    assign,
    passing_for_qemu,
    tasks,
)
from tests.lab import Guest, Hardware, Lab

UUID = "6f1c1d0e-6a4f-4f0a-9a52-0d0c3d0b7a01"


@pytest.fixture
def guest() -> Iterator[Busy]:
    with passing_for_qemu(UUID) as process:
        yield process


@pytest.fixture
def watching(machine: Machine, guest: Busy) -> Watching:
    run = machine.folder / "run"
    run.mkdir()
    (run / "web.pid").write_text(str(guest.pid))
    return Watching(machine.root, run)


def group(machine: Machine, control: str = "") -> Path:
    name = f"{resctrl.PREFIX}{UUID}"
    return machine.root / control / "mon_groups" / name


def test_all_threads_and_later_ones(
    machine: Machine, guest: Busy, watching: Watching
) -> None:
    for _ in range(2):  # as after a restart of the agent
        watching.watch("web", UUID)
        assert tasks(group(machine)) == guest.tids()
        guest.start_thread()
        assert tasks(group(machine)) == guest.tids()
    watching.release(UUID)
    assert not group(machine).exists()


def test_counts_what_they_do(
    machine: Machine, guest: Busy, watching: Watching
) -> None:
    watching.watch("web", UUID)
    (path,) = Resctrl(machine.root).ours()[UUID]
    first = resctrl.count(path)
    guest.start_thread()
    second = resctrl.count(path)
    assert first is not None
    assert second is not None
    assert first.identity == second.identity
    assert set(second.banks) == set(QUICK.features)


def test_each_control_group_has_its_threads(
    machine: Machine, guest: Busy, watching: Watching
) -> None:
    (machine.root / "qemu-1-web").mkdir()
    main, spinning = guest.tids()
    assign(machine.root / "qemu-1-web", spinning)
    watching.watch("web", UUID)
    assert tasks(group(machine)) == [main]
    assert tasks(group(machine, "qemu-1-web")) == [spinning]
    assert tasks(machine.root / "qemu-1-web") == [spinning]
    watching.release(UUID)
    assert tasks(machine.root / "qemu-1-web") == [spinning]


def test_threads_that_others_monitor_are_theirs(
    machine: Machine, guest: Busy, watching: Watching
) -> None:
    pqos = machine.monitor("pqos")
    assign(pqos, guest.pid)
    with pytest.raises(FileExistsError, match="pqos"):
        watching.watch("web", UUID)
    assert tasks(pqos) == [guest.pid]
    assert not group(machine).exists()


def test_no_rmid_is_left(
    machine: Machine, guest: Busy, watching: Watching
) -> None:
    machine.change(dataclasses.replace(QUICK, num_rmids=1))
    with pytest.raises(OSError, match="No space left"):
        watching.watch("web", UUID)
    counted = Resctrl(machine.root)
    assert (counted.in_use(), counted.rmids()) == (1, 1)


def test_group_that_somebody_removed_is_made_again(
    machine: Machine, guest: Busy, watching: Watching
) -> None:
    watching.watch("web", UUID)
    (path,) = Resctrl(machine.root).ours()[UUID]
    before = resctrl.count(path)
    path.rmdir()
    assert resctrl.count(path) is None
    watching.watch("web", UUID)
    after = resctrl.count(path)
    assert before is not None
    assert after is not None
    assert before.identity != after.identity


# By the helper


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(resctrl=Hardware(settling=0.1)) as lab:
        yield lab


@pytest.fixture
def client(tmp_path: Path, lab: Lab) -> Iterator[Client]:
    config = tmp_path / "ceilometer.conf"
    config.write_text(configuration(lab))
    client = Client(tmp_path, f"{HELPER} --config-file {config}")
    yield client
    client.end()


def test_helper_watches_a_real_guest(lab: Lab, client: Client) -> None:
    guest = lab.start(Guest("helped", "idle", events=()))
    assert client.ask("watch", guest.domain_name, guest.uuid) is None
    (path,) = Resctrl(lab.resctrl_path).ours()[guest.uuid]
    threads = Path(f"/proc/{lab.qemu_pid(guest)}/task").iterdir()
    assert set(tasks(path)) == {int(task.name) for task in threads}
    assert client.ask("release", guest.uuid) is None
    assert not path.exists()
    lab.remove(guest)


def test_helper_refuses(lab: Lab, client: Client) -> None:
    guest = lab.start(Guest("other", "paused", events=()))
    name = guest.domain_name
    assert client.ask("watch", name, UUID) == ["ProcessLookupError", 3]
    assert client.ask("watch", f"../qemu/{name}", guest.uuid) == [
        "ValueError",
        None,
    ]
    assert client.ask("release", "../../tmp") == ["ValueError", None]
    assert client.ask("watch", "driver", guest.uuid) == [
        "ProcessLookupError",
        3,
    ]
    lab.change_resctrl(num_rmids=1)
    assert client.ask("watch", name, guest.uuid) == ["OSError", 28]
    lab.change_resctrl(num_rmids=64)
    assert Resctrl(lab.resctrl_path).ours() == {}
    lab.remove(guest)


def test_helper_has_no_capabilities_and_comes_again(
    lab: Lab, client: Client
) -> None:
    guest = lab.start(Guest("killed", "paused", events=()))
    client.ask("watch", guest.domain_name, guest.uuid)
    (helper,) = client.helpers()
    status = Path(f"/proc/{helper}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    os.kill(helper, signal.SIGKILL)
    wait_for(lambda: not client.helpers(), 5, "the helper is gone")
    assert client.ask("release", guest.uuid) is None
    assert client.helpers() != [helper]
    assert Resctrl(lab.resctrl_path).ours() == {}
    lab.remove(guest)


def test_helper_that_hangs_is_given_up(lab: Lab, client: Client) -> None:
    guest = lab.start(Guest("hung", "paused", events=()))
    client.ask("watch", guest.domain_name, guest.uuid)
    (helper,) = client.helpers()
    os.kill(helper, signal.SIGSTOP)
    assert client.ask("release", guest.uuid) is None
    assert Resctrl(lab.resctrl_path).ours() == {}
    assert set(client.helpers()) > {helper}
    os.kill(helper, signal.SIGCONT)
    wait_for(
        lambda: helper not in client.helpers(), 5, "it has nobody to serve"
    )
    lab.remove(guest)
