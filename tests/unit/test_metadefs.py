# SPDX-License-Identifier: Apache-2.0
"""Metadata definitions for Glance: keys that Nova and the companion read."""

import json
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf import guest

FOLDER = Path(__file__).parents[2] / "etc" / "glance" / "metadefs"
FILES = sorted(FOLDER.glob("*.json"))
PREFIXES = {"OS::Glance::Image": "hw_", "OS::Nova::Flavor": "hw:"}
#: A flavor that each of these values changes something of.
PINNED = {"hw:cpu_policy": "dedicated"}
MASKED = {**PINNED, "hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0"}
BASES = {
    "pmu": {},
    "cpu_realtime": {**PINNED, "hw:cpu_realtime_mask": "^0"},
    "cpu_realtime_mask": MASKED,
    "emulator_threads_policy": MASKED,
}


def keys() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (kind["name"], name, described)
        for path in FILES
        for found in [json.loads(path.read_text())]
        for kind in found["resource_type_associations"]
        if kind["name"] in PREFIXES
        for name, described in found["properties"].items()
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_what_glance_loads(path: Path) -> None:
    found = json.loads(path.read_text())
    assert found["namespace"].startswith("OS::Compute::")
    for kind in found["resource_type_associations"]:
        assert kind["prefix"] == PREFIXES.get(kind["name"], "hw_")
    for described in found["properties"].values():
        assert {"title", "description", "type"} <= set(described)


@pytest.mark.parametrize(("kind", "name", "described"), keys())
def test_nova_reads_the_key(
    kind: str, name: str, described: dict[str, Any]
) -> None:
    """Each value that is offered is taken, and they are not the same."""
    results = []
    for value in [None, *described.get("enum", ["2-3"])]:
        flavor = dict(BASES[name])
        image: dict[str, str] = {}
        if value is not None:
            where = image if kind == "OS::Glance::Image" else flavor
            where[PREFIXES[kind] + name] = value
        asked = guest.Asked(4, flavor, image)
        results.append(guest.resolve(asked))
    assert any(each != results[0] for each in results[1:])
