# SPDX-License-Identifier: Apache-2.0
"""The companion's commands, held against what Nova wrote and what is sent."""

import json
import subprocess
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from tests.cloud.site import BIN
from tests.cloud.story import COUNTERS, CYCLES, Story
from tests.cloud.witness import TASK_CLOCK, Seen

COMMAND = BIN / "ceilometer-perf"
WRITTEN = {"on": True, "off": False}


def _run(*words: object, code: int = 0) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True
    )
    said = f"{done.returncode}: {done.stdout}{done.stderr}"
    assert done.returncode == code, said
    return done.stdout


def agrees(story: Story, _done: float) -> None:
    """What the companion asks for is what Nova wrote."""
    server = story.server()
    compute = story.world.compute(server.compute_host)
    conf = "--nova-conf", compute.nova_conf
    said = _run(
        COMMAND, "guest", "check", "--instance", story.uuid, "--connect",
        compute.lab.uri, *conf,
    )  # fmt: skip
    assert said == "no findings\n", said
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
            "-f", "json",
        )
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
