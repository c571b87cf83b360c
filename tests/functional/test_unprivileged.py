# SPDX-License-Identifier: Apache-2.0
"""An agent without privilege, and what sudo lets it do."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.meters import CACHE, METERS
from ceilometer_perf.options import OPTS
from tests.functional.agent import Agent
from tests.functional.helper import (
    Client,
    configuration,
    watches_and_releases,
)
from tests.functional.machine import open_to_all
from tests.functional.node import UID, Node
from tests.lab import Guest, Hardware, Lab

#: The one command that the sample sudoers file is for.
(HELPER,) = (opt.default for opt in OPTS if opt.name == "privsep_helper")
THEIRS = "--config-file /etc/ceilometer/ceilometer.conf"
MINE = "--config-file /tmp/mine.conf"
CONTEXT = "--privsep_context ceilometer_perf.privsep.context"
SOCKET = "--privsep_sock_path /tmp/abc_1/privsep.sock"
PRIVSEP = f"{CONTEXT} {SOCKET}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True, resctrl=Hardware(settling=0.1)) as lab:
        yield lab


@pytest.fixture
def node(tmp_path: Path, lab: Lab) -> Node:
    open_to_all(tmp_path)
    node = Node(tmp_path / "node")
    node.config.write_text(configuration(lab))
    return node


@pytest.fixture
def client(tmp_path: Path, node: Node) -> Iterator[Client]:
    client = Client(tmp_path, HELPER, within=node.command())
    yield client
    client.end()


def test_agent_polls(lab: Lab, node: Node, tmp_path: Path) -> None:
    """Everything, the resctrl groups included that sudo has made for it."""
    guest = lab.start(Guest("polled", "busy"))
    meters = tuple(meter.name for meter in METERS)
    resctrl_path = f"resctrl_path = {lab.resctrl_path}"
    with Agent(
        tmp_path / "agent", lab, meters=meters, perf=resctrl_path, node=node
    ) as agent:
        samples = {
            name: agent.wait_for_samples(
                2, seconds=60, resource_id=guest.uuid, counter_name=name
            )[-1]
            for name in ("perf.coverage", *(meter.name for meter in CACHE))
        }
        status = Path(f"/proc/{agent.process.pid}/status").read_text()
        assert guest.uuid in Resctrl(lab.resctrl_path).ours()
    assert f"\nUid:\t{UID}\t{UID}\t{UID}\t{UID}\n" in status
    assert "\nGroups:\t \n" in status
    assert "\nCapEff:\t0000000000000000\n" in status
    volumes = {name: s["counter_volume"] for name, s in samples.items()}
    assert volumes["perf.coverage"] == pytest.approx(1, abs=0.1)
    assert volumes["memory.bandwidth.total"] > 0
    # privsep logs what its helper's libraries warn of.
    assert [x for x in agent.lines() if "ceilometer_perf." in x] == []
    assert agent.errors() == []
    lab.remove(guest)


def test_helper_by_sudo(lab: Lab, client: Client) -> None:
    watches_and_releases(lab, client, "by-sudo")


def sudo(node: Node, words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        node.command("sudo", "--non-interactive", *words.split()),
        capture_output=True,
        text=True,
    )


def test_sudo_takes_the_sample_file(node: Node) -> None:
    assert sudo(node, "--list").stdout.count("NOPASSWD") == 1
    allowed = f"--list privsep-helper {THEIRS} {PRIVSEP}"
    assert sudo(node, allowed).returncode == 0
    checked = subprocess.run(
        ["visudo", "--check", "--strict", "--file", "/dev/stdin"],
        input=Path("etc/sudoers.d/ceilometer-perf").read_bytes(),
        capture_output=True,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    "words",
    [
        "id",
        "privsep-helper",
        f"privsep-helper {THEIRS}",
        f"privsep-helper {MINE} {PRIVSEP}",
        f"privsep-helper {THEIRS} {MINE} {PRIVSEP}",
        f"privsep-helper {THEIRS} {PRIVSEP} {MINE}",
        f"privsep-helper {PRIVSEP} {THEIRS}",
        f"privsep-helper {THEIRS} --privsep_context os.system {SOCKET}",
        f"privsep-helper {THEIRS} {CONTEXT} {SOCKET}/../../etc/privsep.sock",
        f"/tmp/privsep-helper {THEIRS} {PRIVSEP}",
    ],
)
def test_sudo_refuses_everything_else(node: Node, words: str) -> None:
    refused = sudo(node, words)
    assert refused.returncode == 1
    assert "password is required" in refused.stderr


def test_helper_of_another_configuration_is_refused(
    lab: Lab, node: Node, tmp_path: Path
) -> None:
    guest = lab.start(Guest("refused", "paused", events=()))
    mine = tmp_path / "mine.conf"
    mine.write_text(configuration(lab))
    client = Client(
        tmp_path,
        f"sudo --non-interactive privsep-helper --config-file {mine}",
        within=node.command(),
    )
    assert client.ask("watch", guest.domain_name, guest.uuid) == [
        "FailedToDropPrivileges",
        None,
    ]
    client.end()
    assert guest.uuid not in Resctrl(lab.resctrl_path).ours()
    lab.remove(guest)
