# SPDX-License-Identifier: Apache-2.0
"""The companion's commands, held against what Nova wrote and what is sent."""

import json
import subprocess
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from tests import warm
from tests.cloud.site import BIN
from tests.cloud.story import COUNTERS, CYCLES, Story
from tests.cloud.witness import TASK_CLOCK, Seen

COMMAND = BIN / "ceilometer-perf"
WRITTEN = {"on": True, "off": False}


def _run(*words: object, codes: Collection[int] = (0,)) -> str:
    command = [str(word) for word in words]
    if command[0] == str(COMMAND):
        done = warm.run(command)
    else:
        done = subprocess.run(command, capture_output=True, text=True)
    said = f"{done.returncode}: {done.stdout}{done.stderr}"
    assert done.returncode in codes, said
    return done.stdout


def agrees(story: Story, _done: float) -> None:
    """What the companion asks for is what Nova wrote."""
    server = story.server()
    compute = story.world.compute(server.compute_host)
    conf = "--nova-conf", compute.nova_conf
    said = _run(
        COMMAND, "guest", "check", "--instance", story.uuid, "--connect",
        compute.lab.uri, *conf, "-f", "json", codes=(0, 1),
    )  # fmt: skip
    # Nobody isolated the CPUs of this host for realtime guests.
    found = [
        row for row in json.loads(said)
        if not row["where"].startswith("/proc/")
    ]  # fmt: skip
    assert found == []
    asked = _run(
        COMMAND, "guest", "resolve", "--vcpus", server.flavor.vcpus, *conf,
        *_option("--flavor", server.flavor.extra_specs),
        *_option("--image", story.image_properties()), "-f", "json",
    )  # fmt: skip
    connection = libvirt.openReadOnly(compute.lab.uri_ro)
    try:
        xml = connection.lookupByUUIDString(story.uuid).XMLDesc()
    finally:
        connection.close()
    written = _written(ET.fromstring(xml))  # noqa: S314 - libvirt's own
    wanted = _wanted(json.loads(asked))
    story.row.published = ", ".join(
        f"{name}: {value}"
        for name, value in written.items()
        if name != "perf_events"
    )
    assert written == wanted, f"Nova: {written}; companion: {wanted}"


def _option(name: str, pairs: dict[str, str]) -> list[str]:
    words = [f"{key}={value}" for key, value in pairs.items()]
    return [name, *words] if words else []


def _wanted(asked: dict[str, Any]) -> dict[str, object]:
    realtime = asked["realtime"] or {}
    return {
        "pmu": asked["pmu"],
        "locked": asked["locked"],
        "realtime": sorted(realtime.get("vcpus", [])),
        "priority": realtime.get("priority"),
        "perf_events": sorted(asked["perf_events"]),
    }


def _written(domain: ET.Element) -> dict[str, object]:
    pmu = domain.find("features/pmu")
    scheduled = domain.findall("cputune/vcpusched")
    events = domain.findall("perf/event")
    return {
        "pmu": None if pmu is None else WRITTEN[pmu.get("state", "on")],
        "locked": domain.find("memoryBacking/locked") is not None,
        "realtime": sorted(
            cpu for e in scheduled for cpu in _cpus(e.get("vcpus", ""))
        ),
        "priority": next((int(e.get("priority", 0)) for e in scheduled), None),
        "perf_events": sorted(
            e.get("name", "") for e in events if e.get("enabled") == "yes"
        ),
    }


def _cpus(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def status_agrees(story: Story, done: float) -> None:
    """`status` on the host has as ``ok`` exactly what is published."""

    def cycles() -> list[Seen]:
        found = story.published(done, meter=TASK_CLOCK)
        return found if len(found) >= CYCLES else []

    clocks = story.until(cycles, f"{CYCLES} cycles")
    seen = story.published(done)
    sent = {s.meter for s in seen if s.at == clocks[0].at} & COUNTERS
    compute = story.world.compute(story.host)
    said = _run(
        *compute.inside(
            COMMAND, "status", "--config-file", compute.ceilometer_conf,
            "-f", "json", "--seconds", 1,
        ),
        codes=(0, 1),  # other instances may have what is withheld
    )  # fmt: skip
    (own,) = (
        i for i in json.loads(said)["instances"] if i["id"] == story.uuid
    )
    verdicts = own["verdicts"]
    ok = {
        name
        for name, judgement in verdicts.items()
        if name in COUNTERS and judgement["verdict"] == "ok"
    }
    story.row.published = f"{len(sent)} counters, and as many ok"
    assert ok == sent, f"ok, or published, alone: {sorted(ok ^ sent)}"


def doctor_agrees(story: Story, _done: float) -> None:
    """`doctor` on the host finds no broken link, and nova-compute's file."""
    compute = story.world.compute(story.host)
    found = _examined(
        *compute.inside(
            COMMAND, "doctor", "--config-file", compute.ceilometer_conf
        )
    )
    story.row.published = _states(found)
    assert "broken" not in {row["state"] for row in found.values()}, found
    assert str(compute.nova_conf) in found["nova.conf"]["reason"]
    assert found["instances"]["state"] == "ok"


def doctor_of_controller(story: Story, _done: float) -> None:
    """`doctor` where the notification agent runs, which stores but one."""
    cloud = story.world.cloud
    found = _examined(
        COMMAND, "doctor", "--config-file", cloud.notification_conf,
        "--connect", f"qemu+unix:///system?socket={cloud.folder}/none",
    )  # fmt: skip
    story.row.published = _states(found)
    states = {name: row["state"] for name, row in found.items()}
    assert states.pop("pipeline.yaml") == "warning", found
    assert "does not pass perf.hw." in found["pipeline.yaml"]["reason"]
    assert states.pop("Gnocchi") == "ok", found
    assert set(states.values()) == {"skipped"}, found


def _examined(*command: object) -> Mapping[str, Mapping[str, str]]:
    rows = json.loads(_run(*command, "-f", "json", codes=(0, 1)))
    return {row["link"]: row for row in rows}


def _states(found: Mapping[str, Mapping[str, str]]) -> str:
    """How many links are how."""
    counts = Counter(row["state"] for row in found.values())
    return ", ".join(f"{n} {state}" for state, n in counts.items())
