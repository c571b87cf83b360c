# SPDX-License-Identifier: Apache-2.0
"""How long a sync of slices takes, first and unchanged, and a big request.

Starts a Placement of its own on loopback, with SQLite.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.functional.cloud import Cloud
from tests.lab.placement import PlacementFixture
from tests.unit.slice_trees import Row, parts

POOLS = parts(8, "EIGHTH", "all")
TREES: dict[str, list[Row]] = {
    "64 slices, none overlap": [(f"s{n}", "ONE", None) for n in range(64)],
    "73 slices, 8 pools of 8 within one": [
        ("all", "ALL", None),
        *POOLS,
        *(row for pool, _, _ in POOLS for row in parts(8, "ONE", pool)),
    ],
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for what, rows in TREES.items():
        with PlacementFixture() as fixture, tempfile.TemporaryDirectory() as d:
            measure(what, rows, Cloud(fixture.placement, Path(d)))


def measure(what: str, rows: Iterable[Row], cloud: Cloud) -> None:
    cloud.configure(rows)
    print(what)
    for when in "first", "unchanged":
        begun = time.perf_counter()
        said = cloud.sync()
        seconds = time.perf_counter() - begun
        print(
            f"  {when:10} {len(said['providers']):3} providers "
            f"{len(said['writes']):4} writes {seconds:6.2f} s"
        )
    top = next(iter(cloud.tree.specs.values())).resource_class
    begun = time.perf_counter()
    offered = len(cloud.candidates(top))
    seconds = time.perf_counter() - begun
    print(f"  {top}: {offered} candidates in {seconds:.2f} s")


if __name__ == "__main__":
    main()
