#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Add what ``etc/ceilometer`` samples to an agent's polling or pipeline file.

    add_sources.py SAMPLE FILE

Meters that FILE's other sources choose already are left out: chosen twice,
they would be polled, or published, twice. What an earlier run added is
replaced. For DevStack, whose files are generated: comments are lost.
"""

import fnmatch
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ceilometer_perf.doctor import definitions
from ceilometer_perf.doctor.finding import BrokenError
from ceilometer_perf.meters import METERS

Item = dict[str, Any]


def merged(sample: Mapping[str, Any], target: Path) -> Item:
    """FILE as it should be.

    :raises BrokenError: the agent would not start with it as it is.
    """
    names = {source["name"] for source in sample["sources"]}
    there = definitions.load(target)
    others = [
        source
        for source in definitions.sources(target, there)
        if source.name not in names
    ]
    chosen = {
        meter.name
        for meter in METERS
        if any(source.chooses(meter.name) for source in others)
    }
    added = [left(source, chosen) for source in sample["sources"]]
    result = {
        **plain(there),
        "sources": [
            *_kept(there["sources"], names),
            *(source for source in added if source["meters"]),
        ],
    }
    sinks = _used(sample.get("sinks", ()), result["sources"])
    if "sinks" in there:
        ours = {sink["name"] for sink in sample["sinks"]}
        result["sinks"] = [*_kept(there["sinks"], ours), *sinks]
    return result


def left(source: Item, chosen: set[str]) -> Item:
    """A source without the patterns that bring nothing new."""
    names = [meter.name for meter in METERS if meter.name not in chosen]
    meters = [p for p in source["meters"] if fnmatch.filter(names, p)]
    return {**source, "meters": meters}


def plain(item: Mapping[str, Any]) -> Item:
    """Without what the loader noted."""
    return {k: v for k, v in item.items() if not k.startswith("__")}


def _kept(items: Iterable[Item], replaced: set[str]) -> list[Item]:
    return [plain(each) for each in items if each["name"] not in replaced]


def _used(sinks: Iterable[Item], sources: Iterable[Item]) -> list[Item]:
    used = {sink for source in sources for sink in source.get("sinks", ())}
    return [sink for sink in sinks if sink["name"] in used]


def main(sample: str, target: str) -> int:
    """Rewrite FILE if it changes; the exit code."""
    path = Path(target)
    try:
        result = merged(yaml.safe_load(Path(sample).read_bytes()), path)
    except BrokenError as error:
        print(f"{error}; {error.remedy}", file=sys.stderr)
        return 2
    if result != yaml.safe_load(path.read_bytes()):
        path.write_text(yaml.safe_dump(result, sort_keys=False))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: add_sources.py SAMPLE FILE")
    sys.exit(main(*sys.argv[1:]))
