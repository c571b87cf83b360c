# SPDX-License-Identifier: Apache-2.0
"""What oslo.rootwrap lets an agent without privilege do."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.helper import (
    Client,
    configuration,
    watches_and_releases,
)
from tests.functional.machine import open_to_all
from tests.functional.node import CHECKOUT, Node
from tests.lab import Hardware, Lab

PAGE = CHECKOUT / "doc/source/cache-and-bandwidth.rst"
THEIRS = "--config-file /etc/ceilometer/ceilometer.conf"
MINE = "--config-file /tmp/mine.conf"
CONTEXT = "--privsep_context ceilometer_perf.privsep.context"
SOCKET = "--privsep_sock_path /tmp/abc_1/privsep.sock"
PRIVSEP = f"{CONTEXT} {SOCKET}"
UNAUTHORIZED = 99  # oslo.rootwrap's exit code


def command() -> str:
    """What the documentation says to set [perf] privsep_helper to."""
    text = " ".join(PAGE.read_text().split())
    (said,) = re.findall(r"helper = (sudo ceilometer-rootwrap .*?)``", text)
    return str(said)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    open_to_all(tmp_path)
    node = Node(tmp_path / "node")
    node.use_rootwrap()
    return node


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(resctrl=Hardware(settling=0.1)) as lab:
        yield lab


def test_helper_by_rootwrap(lab: Lab, node: Node, tmp_path: Path) -> None:
    node.config.write_text(configuration(lab))
    client = Client(tmp_path, command(), within=node.command())
    watches_and_releases(lab, client, "by-rootwrap")
    client.end()


def rootwrap(node: Node, words: str) -> subprocess.CompletedProcess[str]:
    wrapped = ("sudo", "--non-interactive", *command().split()[1:3])
    return subprocess.run(
        node.command(*wrapped, *words.split()), capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "words",
    ["id", "python3 -m id", f"/tmp/privsep-helper {THEIRS} {PRIVSEP}"],
)
def test_rootwrap_refuses_other_commands(node: Node, words: str) -> None:
    refused = rootwrap(node, words)
    assert refused.returncode == UNAUTHORIZED, refused.stderr
    assert "Unauthorized command" in refused.stderr


def test_rootwrap_allows_the_helper_as_anybody_likes(node: Node) -> None:
    """As the documentation warns."""
    started = rootwrap(node, f"privsep-helper {MINE} {PRIVSEP}")
    assert started.returncode != UNAUTHORIZED
    assert "Failed to find some config files: /tmp/mine.conf" in started.stderr
