# SPDX-License-Identifier: Apache-2.0
"""What the page on troubles quotes is what the code says."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import ceilometer_perf

PACKAGE = Path(ceilometer_perf.__file__).parent
PAGE = PACKAGE.parent / "doc" / "source" / "troubleshooting.rst"
BLOCK = re.compile(
    r"^\.\. code-block:: text\n\n((?:(?:   .*)?\n)+)", re.MULTILINE
)
QUOTES = [
    line
    for block in BLOCK.findall(PAGE.read_text())
    for line in textwrap.dedent(block).splitlines()
    if line
]
HOLE = "\0"


def said() -> Iterator[str]:
    """Every text of the package, with a hole for what is filled in."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(map(literal, node.values))
            elif isinstance(node, ast.Constant):
                yield literal(node).replace("%s", HOLE)


def literal(node: ast.expr) -> str:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if is_text else HOLE  # type: ignore[attr-defined]


SAID = list(said())


def test_there_are_quotes() -> None:
    assert len(QUOTES) > 30


@pytest.mark.parametrize("quote", QUOTES)
def test_quotes(quote: str) -> None:
    """Each is one text of the code, with "..." for what is filled in."""
    parts = quote.split("...")
    assert len("".join(parts).strip()) > 10
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    assert [text for text in SAID if pattern.search(text)]
