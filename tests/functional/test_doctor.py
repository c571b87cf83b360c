# SPDX-License-Identifier: Apache-2.0
"""The installed doctor on a real libvirtd and real guests."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from ceilometer_perf.doctor import LINKS
from tests.functional.agent import wait_for
from tests.functional.operator import COMMAND, Files, run
from tests.lab import Guest, Lab


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


CLOCK = Guest("clock", "busy", events=("task_clock", "page_faults"))


def test_doctor_of_a_host_where_all_is_well(lab: Lab, files: Files) -> None:
    lab.start(CLOCK)
    rows = walk(files)
    warned = [x for x, row in rows.items() if row["state"] == "warning"]
    # The lab has no resctrl, which is to be mounted where the CPUs could; and
    # core's own mapping none of our meters, which matters where a notification
    # agent runs.
    assert "host_lacks" in rows["cache"]["reason"]
    elsewhere = "on another host" in rows["Gnocchi"]["reason"]
    expected = [] if elsewhere else ["Gnocchi"]
    assert [link for link in warned if link != "cache"] == expected
    assert {row["state"] for row in rows.values()} <= {"ok", "warning"}


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


#: As root of PID and mount namespaces of its own: no other nova-compute is
#: seen. It sleeps, with the command line of the real one.
HOST = """
set -e
cd {folder}
{enter} {python} {folder}/nova-compute --config-file nova.conf \\
    --config-file={folder}/nova-compute.conf --config-dir {folder}/more &
until [ "$(readlink -f /proc/$!/exe)" = "$(readlink -f {python})" ]
do sleep 0.1
done
cd /
{command} doctor -f json --config-file {folder}/ceilometer.conf || true
kill $!
"""


@pytest.mark.parametrize("contained", [False, True])
def test_doctor_reads_what_nova_compute_was_started_with(
    tmp_path: Path, contained: bool
) -> None:
    """In a container, it is the container's file that counts."""
    (tmp_path / "more").mkdir()
    for name, text in {
        "ceilometer.conf": "[DEFAULT]\nlibvirt_uri = qemu:///no-such\n"
        f"[polling]\ncfg_file = {tmp_path}/polling.yaml\n",
        # That it asks for ours makes it a compute host.
        "polling.yaml": json.dumps(
            {
                "sources": [
                    {"name": "a", "interval": 60, "meters": ["perf.sw.*"]}
                ]
            }
        ),
        "nova-compute": "import time\ntime.sleep(100)\n",
        "nova.conf": "[libvirt]\nenabled_perf_events = what\n",
        "nova-compute.conf": "[DEFAULT]\ncompute_driver = x\n",
        "more/events.conf": "[libvirt]\nenabled_perf_events = what\n",
        "inside": "[libvirt]\nenabled_perf_events = task_clock\n",
    }.items():
        (tmp_path / name).write_text(text)
    events = tmp_path / "more" / "events.conf"
    enter = ""
    if contained:
        bind = f"mount --bind {tmp_path}/inside {events}"
        enter = f"unshare --mount sh -c '{bind} && exec \"$@\"' sh"
    else:
        (tmp_path / "inside").rename(events)
    script = HOST.format(
        folder=tmp_path, enter=enter, python=sys.executable, command=COMMAND
    )
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    row = json.loads(done.stdout)[0]
    assert row["state"] == "ok", row
    assert row["reason"].startswith("nova-compute's /")
    assert row["reason"].endswith("/more: 1 event enabled")
    assert ("/root/" in row["reason"]) == contained


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
