# SPDX-License-Identifier: Apache-2.0
"""How well victims and culprits are named, on hosts that are made up.

Prints precision, recall, the time to a verdict and false alarms of this
project's judgement, and of two peers on the same runs. The model is described
in doc/source/neighbours.rst.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.corun import peers, run, story
from tests.corun.score import Alarms, Score, score
from tests.corun.truth import Truth, joined
from tools.usage.numbers import at_least

#: Those that parameters were chosen with; nothing is published of them.
TUNING = range(1, 1000)
#: The first of the others.
PUBLISHED = 40_000

ROWS = {
    "precision": "{:.3f}",
    "recall": "{:.3f}",
    "recall_llc": "{:.3f}",
    "recall_bandwidth": "{:.3f}",
    "recall_cpu": "{:.3f}",
    "recall_smt": "{:.3f}",
    "causes_right": "{:.3f}",
    "cycles_to_verdict": "{:.0f}",
    "false_per_instance_and_30_days": "{:.2f}",
    "alarms_right": "{}",
    "alarms_false": "{}",
    "alarms_of_minor_harm": "{}",
    "harm_seen": "{}",
    "harm_missed": "{}",
    "harm_undecidable": "{}",
    "instance_days": "{:.0f}",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--hosts", type=at_least(1), default=25, metavar="N",
        help="stories with harm, and as many without (default: 25)",
    )  # fmt: skip
    parser.add_argument(
        "--days", type=at_least(1), default=1, metavar="N",
        help="that each of them lasts (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=at_least(1), default=PUBLISHED, metavar="N",
        help=f"of the first story (default: {PUBLISHED}; parameters were "
        f"chosen with those below {TUNING.stop})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--verbose", action="store_true", help="what was wrong, to stderr"
    )
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.hosts)
    found = {
        what: _bench(
            seeds, arguments.days * story.DAY, peaceful=peaceful,
            verbose=arguments.verbose,
        )
        for what, peaceful in (("co-runs", False), ("peace", True))
    }  # fmt: skip
    figures = {
        "seeds": [seeds.start, seeds.stop - 1],
        "days": arguments.days,
        **{
            what: {name: each.figures() for name, each in scores.items()}
            for what, scores in found.items()
        },
    }
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        _print(figures)
    return 0


def _bench(
    seeds: Iterable[int], cycles: int, *, peaceful: bool, verbose: bool
) -> dict[str, Score]:
    total: dict[str, Score] = {}
    for seed in seeds:
        for name, each in play(seed, cycles, peaceful=peaceful).items():
            total.setdefault(name, Score()).__iadd__(each)
            if verbose:
                for alarm in each.wrong:
                    print(seed, name, "wrong", alarm, file=sys.stderr)
                for episode in each.unseen:
                    print(seed, name, "missed", episode, file=sys.stderr)
    return total


def play(seed: int, cycles: int, *, peaceful: bool) -> dict[str, Score]:
    """One story, judged by everybody."""
    host = story.draw(seed, cycles, peaceful=peaceful)
    judges = peers.all_of_them(host.domains)
    alarms = {name: Alarms() for name in judges}
    truth = Truth(host.domains)
    for moment in run.play(host, seed, cycles):
        truth.add(moment)
        for name, judge in judges.items():
            for said in judge.look(moment):
                alarms[name].add(moment.cycle, said)
    episodes = joined(truth.episodes, gap=5)
    return {
        name: score(each.all, episodes, truth.lived)
        for name, each in alarms.items()
    }


def _print(figures: dict[str, Any]) -> None:
    console = Console()
    for what in ("co-runs", "peace"):
        table = Table("", *figures[what], title=what, title_justify="left")
        for row, text in ROWS.items():
            cells = [
                "-" if each.get(row) is None else text.format(each[row])
                for each in figures[what].values()
            ]
            if set(cells) != {"-"}:
                table.add_row(row.replace("_", " "), *cells)
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
