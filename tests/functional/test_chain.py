# SPDX-License-Identifier: Apache-2.0
"""From libvirt to Gnocchi and Prometheus, all parts of it real."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.meters import METERS
from tests.chain.agents import Sent, by_series, said
from tests.chain.chain import Chain
from tests.functional.agent import wait_for
from tests.lab.cleaning import PREFIX
from tools import chain as command
from tools.progress import stderr

CHAIN = Path(__file__).parents[2] / "tools" / "chain.sh"
OUTAGE = 3  # seconds


@dataclass
class Outcome:
    """Of the command, and what the chain's parts have said and done."""

    code: int = 2
    result: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    sent: Sequence[Sent] = ()
    agent: Sequence[str] = ()
    notification: Sequence[str] = ()


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """The command's, of a chain whose broker is killed meanwhile."""
    outcome = Outcome()

    class Broken(Chain):
        def stop_polling(self) -> None:
            kill_the_broker(self)
            super().stop_polling()
            outcome.sent = self.polling.sent()
            outcome.agent = said(self.polling.log)

        def __exit__(self, *exc: object) -> None:
            if self.notification:
                outcome.notification = said(self.notification.log)
            super().__exit__(*exc)

    printed, words = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
    ):
        patch.setattr(command, "Chain", Broken)
        patch.setattr(sys, "argv", ["chain.sh", "--json", "--cycles", "2"])
        patch.setattr(stderr, "file", words)
        outcome.code = command.main()
    outcome.result = json.loads(printed.getvalue() or "{}")
    outcome.words = words.getvalue()
    return outcome


def kill_the_broker(chain: Chain) -> None:
    """It comes back; samples are sent before, and after."""
    assert chain.rabbitmq
    assert chain.notification
    # So that the queue holds what nobody but the broker has any more.
    chain.notification.server.send(signal.SIGSTOP)
    chain.wait_for_cycles(1)
    count = len(chain.polling.sent())
    wait_for(lambda: len(chain.polling.sent()) > count, 60, "a cycle begins")
    chain.rabbitmq.server.send(signal.SIGKILL)
    # What was confirmed is on record before the agent tries again.
    wait_for(
        lambda: "Connection refused" in chain.polling.log.read_text(),
        60,
        "an agent without a broker",
    )
    before = len(chain.polling.sent())
    time.sleep(OUTAGE)
    assert len(chain.polling.sent()) == before  # nobody took more
    chain.rabbitmq.server.start()
    chain.notification.server.send(signal.SIGCONT)
    chain.wait_for_cycles(3)


def test_the_broker_is_killed_and_nothing_that_was_sent_is_lost(
    outcome: Outcome,
) -> None:
    assert outcome.code == 0, "\n".join(
        [outcome.words, *outcome.agent, *outcome.notification]
    )
    rows = outcome.result["meters"]
    assert all(row["equal"] for row in rows)
    assert sum(row["samples"] for row in rows) == len(outcome.sent)
    # The agent reads on once it can send: no cycle is sent in part.
    series = by_series(outcome.sent)
    counted = {
        len(samples)
        for (_, name), samples in series.items()
        if name.startswith(("perf.hw.", "perf.sw."))
    }
    assert len(counted) == 1
    (line,) = (x for x in outcome.agent if "ceilometer_perf." in x)
    assert "perf.sw.alignment_faults: detached" in line


def test_every_meter_of_every_guest(outcome: Outcome) -> None:
    result = outcome.result
    assert result["equal"] is True
    names = {row["meter"] for row in result["meters"]}
    assert names == {meter.name for meter in METERS}
    for row in result["meters"]:
        assert row["equal"] is True
        if row["samples"]:
            assert_one_value(row)
    withheld = {
        row["instance"]: row["gnocchi"]
        for row in result["meters"]
        if row["meter"] == "perf.withheld"
    }
    assert withheld == {"busy-1": 0, "busy-2": 0, "paused-3": 1}
    growing = [row["rate"] for row in result["meters"] if row["rate"]]
    assert any(rate["gnocchi"] > 0 for rate in growing)
    assert all(rate["gnocchi"] == rate["libvirt"] for rate in growing)
    assert any("PMU" in what for what in result["emulated"])
    assert any("resctrl" in what for what in result["emulated"])


def assert_one_value(row: dict[str, Any]) -> None:
    assert row["gnocchi"] == row["prometheus"]
    if row["meter"] != "perf.coverage":
        assert row["gnocchi"] == row["libvirt"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHAIN, *arguments], capture_output=True, text=True, timeout=300
    )


def test_a_single_host_needs_no_gnocchi() -> None:
    done = run("--without", "gnocchi", "--cycles", "2")
    assert done.returncode == 0, done.stderr
    assert "Starting Prometheus" in done.stderr
    for part in ("RabbitMQ", "PostgreSQL", "Gnocchi", "notification"):
        assert part not in done.stderr
    assert "perf.hw.cpu_cycles" in done.stdout


# As a terminal does it; who is killed has no time to clear away.
@pytest.mark.parametrize(
    ("signum", "arguments", "when"),
    [
        (signal.SIGINT, [], "Telling Gnocchi"),
        (signal.SIGKILL, ["--without=gnocchi"], "Polling"),
    ],
)
def test_nothing_is_left_of_it(
    signum: signal.Signals, arguments: list[str], when: str
) -> None:
    process = subprocess.Popen(
        [CHAIN, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr
    assert any(line.startswith(when) for line in process.stderr)
    folder = lab_of(process.pid)
    assert within(folder)
    os.killpg(process.pid, signum)
    _, words = process.communicate(timeout=60)
    wait_for(lambda: not within(folder), 30, "no process is left")
    wait_for(lambda: not folder.exists(), 30, "the folder is gone")
    if signum == signal.SIGINT:
        assert process.returncode == 130
        assert words.splitlines()[-1] == (
            "chain.sh: interrupted; everything is cleared away"
        )


def lab_of(pid: int) -> Path:
    """The folder that the process's servers work in."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    places = [Path(f"/proc/{child}/cwd").readlink() for child in children]
    (found,) = {
        folder
        for place in places
        for folder in place.parents
        if folder.name.startswith(PREFIX)
    }
    return found


def within(folder: Path) -> list[int]:
    """The processes that the folder is named to, or that work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text()
            place = (entry / "cwd").readlink()
        except OSError:
            continue
        if str(folder) in command or place.is_relative_to(folder):
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--without", "libvirt"], "--without"),
        (["--cycles", "1"], "whole number of at least 2"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
