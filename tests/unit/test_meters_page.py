# SPDX-License-Identifier: Apache-2.0
"""The page on meters says what the table and the formulas say."""

import re
from pathlib import Path

import pytest

from ceilometer_perf.counters.derived import FORMULAS
from ceilometer_perf.meters import (
    CORE_POWER,
    METERS,
    RDT,
    SCHED_DELAY_RATIO,
    Meter,
)

PAGE = Path(__file__).parents[2] / "doc" / "source" / "meters.rst"
TERM = re.compile(
    r"^``([\w.]+)`` \((\w+), (\S.*)\)\n((?:(?:   .*)?\n)+)", re.MULTILINE
)
DEFINED = {found[0]: found for found in TERM.findall(PAGE.read_text())}
BY_KEY = {meter.key: meter.name for meter in METERS}


def test_every_meter_and_no_other() -> None:
    assert DEFINED.keys() == {meter.name for meter in METERS}


@pytest.mark.parametrize("meter", METERS, ids=lambda m: str(m.name))
def test_each_has_all_its_parts(meter: Meter) -> None:
    _, kind, unit, text = DEFINED[meter.name]
    assert (kind, unit) == (meter.type, meter.unit)
    assert "*Needs*" in text
    assert re.search(r"\*[Mm]ind\*", text)
    computed = meter in (
        RDT[1],
        CORE_POWER,
        SCHED_DELAY_RATIO,
    ) or meter.name.startswith(("perf.derived.", "perf.coverage"))
    assert ("*Formula*" in text) == computed


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.meter.name)
def test_formulas(formula: object) -> None:
    over, under = BY_KEY[formula.over], BY_KEY[formula.under]  # type: ignore[attr-defined]
    scale = formula.scale  # type: ignore[attr-defined]
    factor = f"{scale} * " if scale != 1 else ""
    text = " ".join(DEFINED[formula.meter.name][3].split())  # type: ignore[attr-defined]
    assert f"*Formula*: ``{factor}{over} / {under}``" in text


def test_which_libvirt_has_them() -> None:
    text = " ".join(PAGE.read_text().split())
    (named,) = re.findall(
        r"libvirt has ([^.]*?) since 2\.3\.0, the others since 3\.0\.0", text
    )
    assert "libvirt has all of them since 3.2.0" in text
    since = {name: (3, 0, 0) for name in BY_KEY.values() if ".hw." in name}
    for event in re.findall(r"``(\w+)``", named):
        since[f"perf.hw.{event}"] = (2, 3, 0)
    assert {m.name: m.since for m in METERS if m.since > (0, 0, 0)} == {
        **{name: (3, 2, 0) for name in BY_KEY.values() if ".sw." in name},
        **since,
    }
