# SPDX-License-Identifier: Apache-2.0
"""The installed status, doctor and top on a real libvirtd and real guests."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ceilometer_perf.doctor import LINKS
from ceilometer_perf.meters import METERS, PERF_KEYS, RDT
from tests.functional.agent import wait_for
from tests.lab import Guest, Lab
from tests.unit.shell import Ran

COMMAND = Path(sys.executable).with_name("ceilometer-perf")
ETC = Path(__file__).parents[2] / "etc" / "ceilometer"

PERF = {meter.name for meter in METERS if meter.key in PERF_KEYS}
NAMES = PERF | {meter.name for meter in RDT}
REALTIME = """<cputune>
  <vcpusched vcpus='0' scheduler='fifo' priority='1'/>
</cputune>"""


def run(*argv: str, **environment: str) -> Ran:
    done = subprocess.run(
        [COMMAND, *argv], capture_output=True, text=True, timeout=60,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


class Files:
    """What the agent of a lab reads."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder = folder
        self._lab = lab
        for name in "polling.yaml", "pipeline.yaml":
            shutil.copy(ETC / name, folder)
        self.nova_conf("task_clock, page_faults")
        self.conf()

    def conf(self, perf: str = "", uri: str = "") -> None:
        self.write(
            "ceilometer.conf",
            f"[DEFAULT]\nlibvirt_uri = {uri or self._lab.uri_ro}\n"
            f"[perf]\nqemu_run_dir = {self._lab.run_dir}/qemu\n{perf}\n",
        )

    def nova_conf(self, events: str) -> None:
        self.write("nova.conf", f"[libvirt]\nenabled_perf_events = {events}\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    @property
    def options(self) -> tuple[str, ...]:
        return "--config-file", f"{self.folder}/ceilometer.conf"


# status and top


@pytest.fixture(scope="module")
def wrecked() -> Iterator[Lab]:
    """A host where everything went wrong that can."""
    with Lab(fake_pmu=True) as lab:
        lab.start(Guest("restarted", "spin"))
        time.sleep(2)
        lab.libvirtd.restart()
        lab.start(Guest("right", "spin"))
        live = lab.start(Guest("live", "spin", events=()))
        lab.start(Guest("realtime", "paused", extra=(REALTIME,)))
        lab.start(Guest("foreign", "paused", metadata=False))
        lab.start(Guest("few", "paused", events=("task_clock",)))
        lab.destroy(lab.start(Guest("stopped", "paused")))
        time.sleep(2)
        lab.domain(live).setPerfEvents(
            {"task_clock": True, "cpu_cycles": True},
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )
        yield lab


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


def test_status_of_each(wrecked: Lab, tmp_path: Path) -> None:
    found = status(Files(tmp_path, wrecked))

    def of(name: str) -> dict[str, Any]:
        instance: dict[str, Any] = found[Guest(name).uuid]
        return instance

    assert len(found) == 7
    assert verdicts(of("right")) == {"ok"}
    assert of("right")["name"] == "right"
    assert of("right")["state"] == "running"
    assert 0.95 < of("right")["coverage"] < 1.05
    assert verdicts(of("restarted")) == {"detached"}
    assert of("restarted")["coverage"] < 0.5
    task_clock = of("restarted")["verdicts"]["perf.sw.task_clock"]
    assert "libvirtd was restarted" in task_clock["reason"]
    assert "hard reboot" in task_clock["remedy"]
    live = of("live")["verdicts"]
    detached = {n for n, v in live.items() if v["verdict"] == "detached"}
    assert detached == {"perf.sw.task_clock", "perf.hw.cpu_cycles"}
    assert live["perf.sw.page_faults"]["verdict"] == "not_enabled"
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
    assert "paused, realtime" in ran.out
    assert Guest("foreign").domain_name in ran.out.splitlines()[-1]


def test_top_once(wrecked: Lab, tmp_path: Path) -> None:
    files = Files(tmp_path, wrecked)
    ran = run("top", "--once", "--interval", "1", *files.options)
    assert (ran.code, ran.err) == (0, "")
    head, _rule, *rows = [x for x in ran.out.splitlines() if x.strip()]
    assert head.split()[:2] == ["name", "state"]
    assert len([row for row in rows if not row.startswith("  ")]) == 7
    cells = rows[0].split()
    assert cells[:2] == ["right", "running"]
    assert cells[2].endswith(("M", "G"))
    assert float(cells[5]) == pytest.approx(1.5, rel=0.1)
    assert cells[-1] == "ok"


def test_status_of_a_host_where_all_is_well(tmp_path: Path) -> None:
    with Lab(fake_pmu=True) as lab:
        lab.start(Guest("right", "spin"))
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


# doctor


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def files(lab: Lab, tmp_path: Path) -> Files:
    return Files(tmp_path, lab)


def walk(files: Files, **environment: str) -> dict[str, dict[str, str]]:
    ran = run(
        "doctor", "-f", "json", *files.options,
        "--nova-conf", f"{files.folder}/nova.conf", **environment,
    )  # fmt: skip
    assert ran.err == ""
    rows = {row["link"]: row for row in json.loads(ran.out)}
    assert list(rows) == [link.name for link in LINKS]
    states = [row["state"] for row in rows.values()]
    assert ran.code == ("broken" in states)
    return rows


def first_broken(files: Files, **environment: str) -> str:
    """Its name; each that is broken has a reason and a remedy."""
    rows = walk(files, **environment)
    (row,) = (row for row in rows.values() if row["state"] == "broken")
    assert row["reason"]
    assert row["remedy"]
    return row["link"]


CLOCK = Guest("clock", "spin", events=("task_clock", "page_faults"))


def test_doctor_of_a_host_where_all_is_well(lab: Lab, files: Files) -> None:
    lab.start(CLOCK)
    rows = walk(files)
    warned = [x for x, row in rows.items() if row["state"] == "warning"]
    # The lab has no resctrl, which is to be mounted where the CPUs could; and
    # core's own mapping none of our meters.
    assert "host_lacks" in rows["cache"]["reason"]
    assert [link for link in warned if link != "cache"] == ["Gnocchi"]
    assert {row["state"] for row in rows.values()} == {"ok", "warning"}


BREAKS: dict[str, Callable[[Files], None]] = {
    "nova.conf": lambda files: files.nova_conf("task_clock, cmtt"),
    "ceilometer.conf": lambda files: files.conf("coverage_floor = 0"),
    "libvirt": lambda files: files.conf(
        uri="qemu+unix:///system?socket=/no/such/socket"
    ),
    "polling.yaml": lambda files: files.write(
        "polling.yaml",
        "sources:\n- name: a\n  interval: 1\n  meters: [perf.hw.cycles]\n",
    ),
    "pipeline.yaml": lambda files: files.write(
        "pipeline.yaml",
        "sources:\n- {name: a, meters: [cpu], sinks: [b]}\n"
        "sinks:\n- {name: b, publishers: ['gnocchi://']}\n",
    ),
    "Gnocchi": lambda files: files.write(
        "gnocchi_resources.yaml", "resources:\n  - metrics: {\n"
    ),
}


def test_doctor_names_the_broken_file(lab: Lab, tmp_path: Path) -> None:
    lab.start(CLOCK)
    for link, breaks in BREAKS.items():
        folder = tmp_path / link
        folder.mkdir()
        files = Files(folder, lab)
        breaks(files)
        assert first_broken(files) == link


def test_doctor_names_the_pmu_that_is_not_there(
    lab: Lab, files: Files
) -> None:
    """Whatever the host, it has no PMU for what Linux has dropped."""
    lab.start(CLOCK)
    files.nova_conf("cmt")
    assert first_broken(files) == "nova.conf"


def test_doctor_names_entry_points_that_do_not_load(
    lab: Lab, files: Files
) -> None:
    lab.start(CLOCK)
    shadow = files.folder / "shadow" / "ceilometer"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ImportError('too old')\n")
    broken = walk(files, PYTHONPATH=str(shadow.parent))["entry points"]
    assert broken["state"] == "broken"
    assert "too old" in broken["reason"]


def test_doctor_follows_the_guests(lab: Lab, files: Files) -> None:
    assert first_broken(files) == "instances"
    lab.start(Guest("foreign", "paused", metadata=False, events=()))
    assert first_broken(files) == "instances"
    plain = lab.start(Guest("plain", "paused", events=()))
    assert first_broken(files) == "XML"
    lab.remove(plain)
    lab.start(CLOCK)
    assert walk(files)["instances"]["state"] == "warning"
    time.sleep(2)
    lab.libvirtd.restart()
    # libvirtd takes a moment to open the events of its guests again.
    wait_for(lambda: first_broken(files) == "gate", 20, "the gate is named")
    lab.reboot(CLOCK)
    assert walk(files)["gate"]["state"] == "ok"


def test_doctor_tells_of_events_that_were_turned_off(
    tmp_path: Path,
) -> None:
    """libvirt notes in the live XML what it no longer counts."""
    with Lab(fake_pmu=True) as lab:
        guest = lab.start(Guest("hw", "paused", events=("cache_misses",)))
        files = Files(tmp_path, lab)
        rows = walk(files)
        assert rows["PMU"]["state"] == "warning"  # hardware_counters
        lab.domain(guest).setPerfEvents(
            {"cache_misses": False}, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
        assert first_broken(files) == "XML"
