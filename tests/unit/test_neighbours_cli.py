# SPDX-License-Identifier: Apache-2.0
"""neighbours: who, whom, through what and why, from the agent's file."""

import copy
import functools
import json
import math
import re
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.cli import errors, neighbours
from tests.unit.shell import Ran, run

COMMANDS = Path(__file__).parents[2] / "doc/source/commands.rst"
WEB = "6695eb01-f6a4-4304-b9aa-97f2502e193f"
BATCH = "0c7e9a54-5c1f-4c0b-8a57-1d2b8f7e4a90"
NEW = "a3f1c2d4-0b5e-4f6a-9c8d-7e6f5a4b3c2d"
HARM: dict[str, Any] = {
    "victim": WEB,
    "culprit": BATCH,
    "cause": "llc",
    "loss": 0.31,
    "correlation": 0.97,
    "cycles": 12,
    "evidence": {
        "excess": 1.45,
        "mpki_before": 0.81,
        "mpki": 4.62,
        "occupancy_before": 8.2e6,
        "occupancy": 4.1e6,
        "culprit_before": 0.9e6,
        "culprit": 18.3e6,
    },
}


class Kept:
    """What an agent has written, and a configuration that names it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kept.json"
        self.conf = folder / "ceilometer.conf"
        self.conf.write_text(f"[perf]\nneighbours_file = {self.path}\n")
        self.told: dict[str, Any] = {
            "boot": "this",
            "at": (datetime.now(UTC) - timedelta(seconds=12)).isoformat(),
            "names": {
                WEB: "instance-0000002a",
                BATCH: "instance-0000002b",
                NEW: "instance-0000002c",
            },
            "judged": [WEB, BATCH],
            "untold": {NEW: {"cpu": "12 of 30 cycles of history"}},
            "interferences": [copy.deepcopy(HARM)],
            "usual": None,
        }

    def run(self, *words: str) -> Ran:
        self.path.write_text(json.dumps(self.told))
        return self.only_run(*words)

    def only_run(self, *words: str) -> Ran:
        return run("neighbours", "--config-file", str(self.conf), *words)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_people_see_who_and_why(kept: Kept) -> None:
    ran = kept.run()
    assert (ran.code, ran.err) == (0, "")
    first, *table = ran.out.splitlines()
    ago = re.fullmatch(r"3 instances (\d+) s ago: 1 victim, 1 unknown", first)
    assert ago
    assert int(ago[1]) >= 12
    text = " ".join("\n".join(table).split())
    for part in (
        "instance-0000002a",
        WEB,
        "instance-0000002b",
        "llc",
        "31%",
        "0.97",
        "instance-0000002a, by instance-0000002b: misses per 1,000 ",
        "instructions 0.81 -> 4.62, holds 8.2 -> 4.1 MB, culprit takes ",
        "0.9 -> 18.3 MB",
        "usual",
        "unknown",
        "Not known: cpu: 12 of 30 cycles of history (instance-0000002c)",
    ):
        assert part in text


def test_the_page_shows_what_is_written(kept: Kept) -> None:
    text = textwrap.dedent(COMMANDS.read_text().partition(
        "$ ceilometer-perf neighbours\n"
    )[2].partition("\n\n")[0])  # fmt: skip
    assert kept.run().out.splitlines()[1:] == text.splitlines()[1:]


@pytest.mark.parametrize("cause", neighbours._TAKES)
def test_each_cause_has_words(kept: Kept, cause: str) -> None:
    kept.told["interferences"] = [{**HARM, "cause": cause}]
    ran = kept.run()
    assert ran.code == 0
    assert cause in ran.out


def test_programs_get_all(kept: Kept) -> None:
    rows = json.loads(kept.run("-f", "json").out)
    victim, usual, unknown = rows
    assert victim["id"] == WEB
    assert victim["verdict"] == "victim"
    assert (victim["culprit"], victim["cause"]) == (BATCH, "llc")
    assert (victim["loss"], victim["correlation"]) == (0.31, 0.97)
    assert victim["evidence"]["mpki"] == 4.62
    assert (usual["name"], usual["verdict"]) == ("instance-0000002b", "usual")
    assert unknown["verdict"] == "unknown"
    assert unknown["untold"] == {"cpu": "12 of 30 cycles of history"}
    assert {row["at"] for row in rows} == {kept.told["at"]}


def test_the_worst_is_first(kept: Kept) -> None:
    worse = {**HARM, "cause": "cpu", "loss": 0.5}
    kept.told["interferences"] = [HARM, worse]
    rows = json.loads(kept.run("-f", "json").out)
    assert [row["cause"] for row in rows[:2]] == ["cpu", "llc"]
    assert "1 victim," in kept.run().out


def test_what_is_out_of_date(kept: Kept) -> None:
    kept.told["at"] = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    assert "; out of date: does the agent run" in kept.run().out


def test_nobody(kept: Kept) -> None:
    kept.told.update(names={}, judged=[], untold={}, interferences=[])
    assert kept.run().out.splitlines()[1] == "no instances"


def test_no_file(kept: Kept) -> None:
    ran = kept.only_run()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(
        f"ceilometer-perf: error: {kept.path}: does not exist; the agent "
        "writes it"
    )
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "must be a JSON object"),
        ("{}", "must be as this version of the agent writes it"),
        ('{"at": 7}', "must be as this version of the agent writes it"),
        ("[" * 100_000, "must be as this version of the agent writes it"),
    ],
)
def test_another_file(kept: Kept, text: str, why: str) -> None:
    kept.path.write_text(text)
    ran = kept.only_run()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"ceilometer-perf: error: {kept.path}: {why}\n"


@pytest.mark.parametrize(
    "other",
    [
        {"interferences": [{**HARM, "cause": "disks"}]},
        {"interferences": [{**HARM, "loss": "much"}]},
        {"interferences": [{**HARM, "evidence": {}}]},
        {"names": []},
        {"untold": {NEW: None}},
        {"at": "2026-01-01T00:00:00"},
    ],
)
def test_a_file_of_another_version(kept: Kept, other: dict[str, Any]) -> None:
    kept.told.update(other)
    for words in (), ("-f", "json"):
        ran = kept.run(*words)
        assert (ran.code, ran.out) == (2, "")
        assert f"{kept.path}: must be as this version" in ran.err


def test_many_of_whom_nothing_is_known(kept: Kept) -> None:
    kept.told.update(
        names={f"u{n}": f"instance-{n:08x}" for n in range(300)},
        judged=[],
        interferences=[],
        untold={f"u{n}": {"cpu": "2 of 30 cycles"} for n in range(300)},
    )
    last = kept.run().out.splitlines()[-1]
    assert last.startswith("Not known: cpu: 2 of 30 cycles (instance-0")
    assert last.endswith(" and 295 others)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--watch", "0.1"), "--watch 0.1: must be at least 0.5 s"),
        (("--watch", "-f", "json"), "-f json goes without --watch"),
    ],
)
def test_what_can_not_be(
    kept: Kept, words: tuple[str, ...], said: str
) -> None:
    ran = kept.run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_watching(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    ran = kept.run("--watch", "7")
    assert slept == [7, 7, 7]
    assert ran.out.count("1 victim") == 3


def test_names_are_safe_for_a_terminal(kept: Kept) -> None:
    kept.told["names"][BATCH] = "\x1b[2J"
    assert "\x1b" not in kept.run().out


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(told: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Each place in a document, as its keys from the top."""
    if above:
        yield above
    if isinstance(told, dict):
        for key, inside in told.items():
            yield from places(inside, *above, key)
    if isinstance(told, list):
        for number, inside in enumerate(told):
            yield from places(inside, *above, number)


@given(st.data())
def test_what_another_writes_is_refused_or_shown(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """In place of any part of what the agent writes."""
    kept = Kept(tmp_path_factory.mktemp("kept"))
    told = copy.deepcopy(kept.told)
    *above, last = data.draw(st.sampled_from(sorted(places(told), key=str)))
    inside = functools.reduce(lambda part, key: part[key], above, told)
    if data.draw(st.booleans()):
        inside[last] = data.draw(JSON)
    else:
        del inside[last]
    kept.path.write_text(json.dumps(told))
    try:
        said = neighbours._read(kept.path)
    except errors.InputError:
        return
    assert neighbours.headline(said)
    assert json.dumps([*neighbours.rows(said)], allow_nan=False)
    assert [neighbours._shown(row) for row in neighbours.rows(said)]
    assert [*neighbours.below(said)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": {WEB: 7}},
        {"at": "2026-11-27T12:00:00"},
        {"untold": {NEW: {"cpu": None}}},
        {"untold": {NEW: "cpu"}},
        {"judged": None},
        *(
            {"interferences": [{**HARM, **wrong}]}
            for wrong in (
                {"cause": "another agent's"},
                {"victim": None},
                {"culprit": 7},
                {"loss": "0.3"},
                {"loss": True},
                {"correlation": math.nan},
                {"cycles": math.inf},
                {"evidence": {"culprit": 1.0}},
                {"evidence": {**HARM["evidence"], "mpki": None}},
            )
        ),
    ],
    ids=str,
)
def test_what_this_agent_does_not_write(
    kept: Kept, wrong: dict[str, Any]
) -> None:
    kept.told |= wrong
    ran = kept.run()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"ceilometer-perf: error: {kept.path}: must be as this version of "
        "the agent writes it\n"
    )


def test_what_has_no_before_is_left_out(kept: Kept) -> None:
    kept.told["interferences"][0]["evidence"].pop("mpki_before")
    assert "holds 8.2 -> 4.1 MB" in " ".join(kept.run().out.split())
