# SPDX-License-Identifier: Apache-2.0
"""The model, the truth and the score that the judgement is measured with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corun import run, story
from tests.corun.machine import Domain, Phase, Running, alone, solve
from tests.corun.score import Alarm, score
from tests.corun.truth import Episode, Truth, joined
from tools.bench_neighbours import PUBLISHED, TUNING, play

HOST = Domain(0, 8)
WEB = Phase(0.8, 15, 8e6)
GRAPH = Phase(0.8, 15, 3e6, 0.5)
NEIGHBOUR = {
    "quiet": Phase(0.5, 0.5, 1e6),
    "thrash": Phase(0.7, 40, 60e6, 0.2),
    "stream": Phase(0.6, 60, 4e9, 0.95),
}


def running(phase: Phase, *cpus: int, demand: float = 1.0) -> Running:
    return Running(phase, len(cpus), frozenset(cpus), demand, demand < 2)


def test_nobody_is_slower_than_alone_beside_a_quiet_one() -> None:
    web = running(WEB, 0, 2)
    states = solve(HOST, {"web": web, "x": running(NEIGHBOUR["quiet"], 8)})
    assert states["web"].cost == pytest.approx(alone(HOST, web).cost, rel=0.01)


def test_who_thrashes_evicts() -> None:
    web = running(WEB, 0, 2)
    greedy = running(NEIGHBOUR["thrash"], 8, 10, 12, 14, demand=4)
    state = solve(HOST, {"web": web, "x": greedy})["web"]
    assert state.held < 6e6 < alone(HOST, web).held
    assert state.mpki > 2 * alone(HOST, web).mpki
    assert state.waited == 0


def test_who_streams_makes_misses_slower() -> None:
    graph = running(GRAPH, 0, 2)
    cpus = (4, 6, 8, 10, 12, 14)
    greedy = running(NEIGHBOUR["stream"], *cpus, demand=6)
    state = solve(HOST, {"graph": graph, "x": greedy})["graph"]
    assert state.miss > 1.3 * alone(HOST, graph).miss


def test_a_busy_sibling_takes_its_share() -> None:
    web = running(WEB, 0, 2)
    spin = running(NEIGHBOUR["quiet"], 1, 3, demand=2)
    state = solve(HOST, {"web": web, "x": spin})["web"]
    assert state.core > 1.3 * alone(HOST, web).core


def test_who_shares_a_cpu_waits() -> None:
    web = running(WEB, 0, demand=1.0)
    spin = running(NEIGHBOUR["quiet"], 0, demand=2)
    state = solve(HOST, {"web": web, "x": spin})["web"]
    assert state.waited == pytest.approx(0.5, abs=0.05)
    assert state.stretch == pytest.approx(2, abs=0.1)


def test_a_seed_is_a_story() -> None:
    def seen(seed: int) -> list[object]:
        host = story.draw(seed, 300, peaceful=False)
        return [moment.seen for moment in run.play(host, seed, 300)]

    assert seen(5) == seen(5)
    assert seen(5) != seen(6)


def test_the_truth_knows_who_it_was() -> None:
    host = story.draw(3, 600, peaceful=False)
    truth = Truth(host.domains)
    for moment in run.play(host, 3, 600):
        truth.add(moment)
    harm = [each for each in joined(truth.episodes, 5) if each.harmful]
    assert harm
    for each in harm:
        assert each.victim not in each.culprits
        assert each.culprits <= each.accessories
        assert each.causes


def episode(victim: str, first: int, last: int, *culprits: str) -> Episode:
    return Episode(
        victim, first, last, worst=0.3, harmed=last - first,
        culprits=set(culprits), accessories={*culprits, "also"},
        causes={"llc"},
    )  # fmt: skip


def test_the_score() -> None:
    found = score(
        [
            Alarm("v", "c", 103, 150, {"llc"}),
            Alarm("v", "wrong", 110, 120, {"llc"}),
            Alarm("v", "also", 110, 120, {"llc"}),
            Alarm("w", "c", 110, 120, {"llc"}),
        ],
        [episode("v", 100, 140, "c"), episode("u", 100, 140, "c")],
        lived=30 * story.DAY,
    )
    figures = found.figures()
    assert (found.right, found.false, found.grey) == (1, 2, 1)
    assert (found.seen, found.missed) == (1, 1)
    assert figures["precision"] == pytest.approx(1 / 3)
    assert figures["recall"] == 0.5
    assert figures["causes_right"] == 1
    assert figures["cycles_to_verdict"] == 4
    assert figures["false_per_instance_and_30_days"] == 2


def test_what_is_broken_is_counted_apart() -> None:
    harm = episode("v", 100, 140, "c")
    harm.broken_at_first = True
    assert score([], [harm], 1).undecidable == 1


def test_published_seeds_are_others() -> None:
    assert PUBLISHED not in TUNING


def test_half_a_day() -> None:
    scores = play(2, 720, peaceful=False)
    ours = scores["perf.neighbour.*"].figures()
    assert ours["harm_seen"]
    assert ours["precision"] is not None
    assert ours["precision"] >= 0.9


def test_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench_neighbours", "--hosts", "0"],
        capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 2
    assert "--hosts" in done.stderr
    assert json.dumps({"lines": done.stdout}) == '{"lines": ""}'
