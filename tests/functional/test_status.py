# SPDX-License-Identifier: Apache-2.0
"""The installed status and top on a real libvirtd and real guests."""

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ceilometer_perf.meters import METERS, PERF_KEYS, RDT
from tests.functional.agent import wait_for
from tests.functional.machine import has_used
from tests.functional.operator import COMMAND, Files, run
from tests.lab import Guest, Lab

PERF = {meter.name for meter in METERS if meter.key in PERF_KEYS}
NAMES = PERF | {meter.name for meter in RDT}
#: Seconds of CPU time that leave nobody in doubt.
ENOUGH = 2.5
REALTIME = """<cputune>
  <vcpusched vcpus='0' scheduler='fifo' priority='1'/>
</cputune>"""


def status(files: Files, *argv: str, code: int = 1) -> dict[str, Any]:
    """The instances by id, when that is how it ends."""
    ran = run("status", "-f", "json", *files.options, *argv)
    assert (ran.code, ran.err) == (code, "")
    answer = json.loads(ran.out)
    assert set(answer) == {"host", "instances"}
    assert answer["host"]["libvirt"]
    return {each["id"]: each for each in answer["instances"]}


def verdicts(instance: dict[str, Any]) -> set[str]:
    assert set(instance["verdicts"]) == NAMES
    return {instance["verdicts"][name]["verdict"] for name in PERF}


def test_status_of_a_host_where_all_is_well(tmp_path: Path) -> None:
    with Lab(fake_pmu=True) as lab:
        lab.start(Guest("right", "busy"))
        files = Files(tmp_path, lab)
        (right,) = status(files, "--seconds", "0", code=0).values()
        assert verdicts(right) == {"ok"}
        lab.libvirtd.kill(signal.SIGSTOP)
        files.conf("libvirt_timeout = 1")
        ran = run("status", "-f", "json", *files.options)
        assert (ran.code, ran.out) == (2, "")
        assert "no answer within 1 s" in json.loads(ran.err)["message"]


def test_top_in_a_terminal_outlives_libvirtd(tmp_path: Path) -> None:
    with Lab(fake_pmu=True) as lab:
        lab.start(Guest("first", "paused"))
        files = Files(tmp_path, lab)
        screen = tmp_path / "screen"
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            # Who runs tests in the background may ignore Ctrl-C.
            ["env", "--default-signal=INT",
             COMMAND, "top", "--interval", "0.5", *files.options],
            stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
        ) as top, Screen(ours, screen):  # fmt: skip
            try:
                os.close(theirs)
                wait_for(lambda: "first" in screen.read_text(), 20, "a table")
                lab.libvirtd.stop()
                wait_for(lambda: "stale" in screen.read_text(), 20, "stale")
                lab.libvirtd.start()
                lab.start(Guest("second", "paused"))
                wait_for(lambda: "second" in screen.read_text(), 20, "second")
                top.send_signal(signal.SIGINT)
                assert top.wait(20) == 0
            finally:
                top.kill()
        assert "Traceback" not in screen.read_text()


class Screen:
    """Copies what a terminal shows to a file."""

    def __init__(self, terminal: int, path: Path) -> None:
        self._terminal = terminal
        path.touch()
        self._copy = subprocess.Popen(
            ["cat"], stdin=terminal, stdout=path.open("w"),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> None:
        """It copies already."""

    def __exit__(self, *_: object) -> None:
        self._copy.kill()
        self._copy.wait()
        os.close(self._terminal)


# Last, for a guest of it spins as long as it is up


@pytest.fixture(scope="module")
def wrecked() -> Iterator[Lab]:
    """A host where everything went wrong that can."""
    with Lab(fake_pmu=True) as lab:
        restarted = lab.start(Guest("restarted", "spin"))
        has_used(lab, restarted, ENOUGH)
        lab.libvirtd.restart()
        lab.domain(restarted).suspend()
        right = lab.start(Guest("right", "spin"))
        live = lab.start(Guest("live", "spin", events=()))
        late = lab.start(Guest("late", "paused", events=("task_clock",)))
        lab.domain(late).setPerfEvents(
            {"page_faults": True, "cpu_cycles": True},
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )
        lab.start(Guest("realtime", "paused", extra=(REALTIME,)))
        lab.start(Guest("foreign", "paused", metadata=False))
        lab.start(Guest("few", "paused", events=("task_clock",)))
        lab.destroy(lab.start(Guest("stopped", "paused")))
        for guest in (right, live):
            has_used(lab, guest, ENOUGH)
        lab.domain(live).setPerfEvents(
            {"task_clock": True, "cpu_cycles": True},
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )
        # What it has used is known; the others need the CPUs.
        lab.domain(live).suspend()
        yield lab


def test_status_of_each(wrecked: Lab, tmp_path: Path) -> None:
    found = status(Files(tmp_path, wrecked))

    def of(name: str) -> dict[str, Any]:
        instance: dict[str, Any] = found[Guest(name).uuid]
        return instance

    assert len(found) == 8
    assert verdicts(of("right")) == {"ok"}
    assert of("right")["name"] == "right"
    assert of("right")["state"] == "running"
    assert 0.95 < of("right")["coverage"] < 1.05
    assert verdicts(of("restarted")) == {"detached"}
    assert of("restarted")["coverage"] < 0.5
    task_clock = of("restarted")["verdicts"]["perf.sw.task_clock"]
    assert "daemon was restarted" in task_clock["reason"]
    assert "hard reboot" in task_clock["remedy"]
    assert "live migrate" in task_clock["remedy"]
    live = of("live")["verdicts"]
    detached = {n for n, v in live.items() if v["verdict"] == "detached"}
    assert detached == {"perf.sw.task_clock", "perf.hw.cpu_cycles"}
    assert live["perf.sw.page_faults"]["verdict"] == "not_enabled"
    late = of("late")["verdicts"]
    detached = {n for n, v in late.items() if v["verdict"] == "detached"}
    assert detached == {"perf.sw.page_faults", "perf.hw.cpu_cycles"}
    assert "its definition does not" in late["perf.hw.cpu_cycles"]["reason"]
    assert late["perf.sw.task_clock"]["verdict"] == "ok"
    assert verdicts(of("realtime")) == {"realtime"}
    assert of("realtime")["realtime"] is True
    assert verdicts(of("stopped")) == {"not_running"}
    assert of("stopped")["state"] == "shutoff"
    assert of("foreign")["name"] == Guest("foreign").domain_name
    assert of("few")["verdicts"]["perf.sw.task_clock"]["verdict"] == "ok"


def test_status_for_people(wrecked: Lab, tmp_path: Path) -> None:
    ran = run("status", "--seconds", "0", *Files(tmp_path, wrecked).options)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.count("To do: hard reboot the instance") == 1
    assert re.search(r"\| paused, +(realtime +)?\|", ran.out)
    assert Guest("foreign").domain_name in ran.out.splitlines()[-1]


def test_top_once(wrecked: Lab, tmp_path: Path) -> None:
    files = Files(tmp_path, wrecked)
    ran = run("top", "--once", "--interval", "1", *files.options)
    assert (ran.code, ran.err) == (0, "")
    head, _rule, *rows = [x for x in ran.out.splitlines() if x.strip()]
    assert head.split()[:2] == ["name", "state"]
    assert len([row for row in rows if not row.startswith("  ")]) == 8
    cells = rows[0].split()
    assert cells[:2] == ["right", "running"]
    assert cells[2].endswith(("M", "G"))
    assert float(cells[5]) == pytest.approx(1.5, rel=0.1)
    assert cells[-1] == "ok"
