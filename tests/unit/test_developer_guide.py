# SPDX-License-Identifier: Apache-2.0
"""The guides name files, functions and pages that exist."""

import re
from pathlib import Path

import pytest

import ceilometer_perf

ROOT = Path(ceilometer_perf.__file__).parents[1]
SOURCE = ROOT / "doc" / "source"
PATH = re.compile(
    r"(?<![\w/.-])"
    r"((?:ceilometer_perf|doc|etc|tests|tools)/[\w./-]*\w|setup\.cfg"
    r"|[\w-]+\.txt)"
)
GUIDES = ("developing", "quick-start", "architecture", "packaging")


@pytest.mark.parametrize("page", GUIDES)
def test_files(page: str) -> None:
    text = (SOURCE / f"{page}.rst").read_text()
    named = {p for p in PATH.findall(text) if "doc/build" not in p}
    assert named
    assert [n for n in sorted(named) if not (ROOT / n).exists()] == []


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("_computed", "meters.py"),
        ("Formula", "counters/derived.py"),
        ("Published", "counters/monitor.py"),
        ("SourceUnavailableError", "reading.py"),
        ("Reading", "reading.py"),
        ("Usage", "rdt/usage.py"),
        ("Connection", "host/connection.py"),
        ("read", "rdt/choice.py"),
    ],
)
def test_names(name: str, file: str) -> None:
    """What the developer guide sends people to is there."""
    assert re.search(
        rf"``(\w+\.)?{name}``", (SOURCE / "developing.rst").read_text()
    )
    text = (ROOT / "ceilometer_perf" / file).read_text()
    assert re.search(rf"\b{name}\b", text)


def test_every_page_is_in_the_index() -> None:
    index = (SOURCE / "index.rst").read_text()
    listed = re.findall(r"^   ([\w-]+)$", index, re.MULTILINE)
    pages = {path.stem for path in SOURCE.glob("*.rst")} - {"index"}
    assert set(listed) == pages
    assert len(listed) == len(pages)
