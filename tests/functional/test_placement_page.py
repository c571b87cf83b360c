# SPDX-License-Identifier: Apache-2.0
"""The page on slices and Placement is true: its commands are run, in order.

In the folder that the page of slices leaves behind, with the real Placement.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ceilometer_perf.guest import compute_driver
from tests.functional.cloud import Cloud
from tests.functional.test_slices_page import ROOT, SHOWN, Shell, commands
from tests.lab.placement import PlacementFixture
from tests.unit.slice_trees import Row, parts, write_nova_conf

PAGE = ROOT / "doc" / "source" / "slices-placement.rst"
HERE = list(commands(PAGE.read_text()))

NODE = "compute-1"
RUNS, COMES = (
    "5d3c2f0e-8a41-4c57-b0f5-1f2a6b7c8d9e",
    "0a4f7d52-19c6-4a0e-9f1e-3c5b8d2e7a61",
)
QUARTERS: list[Row] = [
    ("whole", "WHOLE", None),
    *parts(2, "HALF", "whole"),
    *(
        row
        for half in ("whole-1", "whole-2")
        for quarter in parts(2, "QUARTER", half)
        for row in (quarter, *parts(2, "EIGHTH", quarter[0]))
    ),
]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with PlacementFixture() as fixture:
        yield Cloud(fixture.placement, tmp_path, node=NODE)


def prepared(cloud: Cloud, folder: Path) -> Shell:
    """The page of slices, up to its nova.conf, and what it left out."""
    shell = Shell(folder)
    for command, _ in SHOWN[:4]:
        shell.run(command)
    conf = folder / "nova.conf"
    conf.write_text(
        f"[DEFAULT]\nhost = {NODE}\nstate_path = {folder}\n"
        f"compute_driver = {compute_driver.NAME}\n"
        f"{cloud.placement_conf}{conf.read_text()}"
    )
    write_nova_conf(folder / "quarters.conf", QUARTERS)
    return shell


def test_all_of_it(cloud: Cloud, tmp_path: Path) -> None:
    shell = prepared(cloud, tmp_path)
    for command, output in HERE:
        if "slice choose" in command:
            schedule(cloud)
        assert shell.run(command) == output.strip("\n"), command


def schedule(cloud: Cloud) -> None:
    """What Nova did before the page chooses: both have one eighth."""
    half = str(uuid.uuid5(uuid.UUID(cloud.node_uuid), "1of2_1"))
    body = {half: {"resources": {"CUSTOM_SLICE_1OF8": 1}}}
    for consumer in RUNS, COMES:
        assert cloud.claim({"allocations": body}, consumer)


@pytest.mark.parametrize("verb", ["sync", "flavors", "choose"])
def test_every_command_is_shown(verb: str) -> None:
    assert any(f"slice {verb} " in command for command, _ in HERE)
