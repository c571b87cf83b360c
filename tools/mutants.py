# SPDX-License-Identifier: Apache-2.0
"""Run mutmut on one module after the other, each with its own unit tests.

It works on a copy of the checkout, in which functions are decorated after
their definition: those with a decorator mutmut leaves out, properties too.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
TABLE = CHECKOUT / "tests" / "mutants.toml"
PACKAGE = "ceilometer_perf"
MUTMUT = Path(sys.executable).with_name("mutmut")
GOAL = 0.95
KILLED = ("killed", "timeout", "caught by type check", "segfault")
IGNORED = (".*", "build", "dist", "*.egg-info", "__pycache__")
#: What mutmut can decorate itself.
KNOWN = ("staticmethod", "classmethod")


@dataclass(frozen=True)
class Mutant:
    """A change, and the function that it was made in."""

    function: str
    was: str
    becomes: str

    def __str__(self) -> str:
        was, becomes = self.was or "(nothing)", self.becomes or "(nothing)"
        return f"{self.function}: {was}\n        -> {becomes}"


@dataclass(frozen=True)
class Result:
    """What became of a module's mutants."""

    mutants: int
    survivors: list[Mutant]
    explained: list[Mutant]

    @property
    def score(self) -> float:
        """The share of those that a test could notice and did."""
        noticeable = self.mutants - len(self.explained)
        return 1 - len(self.survivors) / noticeable if noticeable else 1.0


def main(chosen: list[str]) -> int:
    """Print the score of each module."""
    table = tomllib.loads(TABLE.read_text())
    tests: Mapping[str, list[str]] = table["tests"]
    if unknown := set(chosen) - tests.keys():
        print(f"mutants.sh: no tests for {', '.join(sorted(unknown))} in "
              f"tests/mutants.toml; it has {', '.join(tests)}",
              file=sys.stderr)  # fmt: skip
        return 2
    good = True
    for module in chosen or tests:
        result = run(
            module, tests[module], table["equivalent"].get(module, [])
        )
        print(f"{module:28}{result.score:7.1%} of "
              f"{result.mutants - len(result.explained)}, "
              f"{len(result.explained)} equivalent", flush=True)  # fmt: skip
        for mutant in result.survivors:
            print(f"    {mutant}", flush=True)
        good = good and result.score >= GOAL
    return 0 if good else 1


def run(
    module: str, tests: list[str], equivalent: list[Mapping[str, str]]
) -> Result:
    """Mutate one module."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "checkout"
        prepare(copy, module, tests)
        ran = mutmut(
            copy, "run", "--max-children", str(len(os.sched_getaffinity(0)))
        )
        states = dict(results(copy))
        if not states or ran.returncode:
            sys.exit(
                f"mutants.sh: {module}: {(ran.stdout + ran.stderr)[-3000:]}"
            )
        alive = [
            shown(mutmut(copy, "show", name).stdout, name)
            for name, state in states.items()
            if state not in KILLED
        ]
    known = [
        Mutant(each["function"], each["was"], each["becomes"])
        for each in equivalent
    ]
    for mutant in known:
        if mutant not in alive:
            print(f"{module}: explained, but killed or gone: {mutant}")
    return Result(
        len(states),
        [mutant for mutant in alive if mutant not in known],
        [mutant for mutant in alive if mutant in known],
    )


def prepare(copy: Path, module: str, tests: list[str]) -> None:
    """Copy the checkout, with what mutmut has to know."""
    shutil.copytree(CHECKOUT, copy, ignore=shutil.ignore_patterns(*IGNORED))
    source = f"{PACKAGE}/{module}.py"
    path = copy / source
    path.write_text(undecorated(path.read_text()))
    folders = sorted(
        each.name
        for each in copy.iterdir()
        if each.name not in (PACKAGE, "tests")
    )
    options = {
        "source_paths": [PACKAGE],
        "only_mutate": [source],
        "pytest_add_cli_args_test_selection": [
            f"tests/unit/{name}.py" for name in tests
        ],
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "also_copy": folders,
        # What is logged, never reached, or text for people decides nothing.
        "do_not_mutate_patterns": [
            r"LOG\.\w+",
            r"raise AssertionError",
            r"^\s*f?[\"'].*[^,:]$",
        ],
    }
    with (copy / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n")
        # Lists of plain strings are the same in JSON and in TOML.
        # Not in a process that has run the tests: results may be cached there.
        file.write('process_isolation = "forkserver"\n')
        file.writelines(f"{k} = {json.dumps(v)}\n" for k, v in options.items())


def undecorated(source: str) -> str:
    """Each ``@d def f`` as ``def f`` and, after it, ``f = d(f)``."""
    lines: list[str | None] = list(source.splitlines())
    after: dict[int, str] = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or not node.decorator_list:
            continue
        names = [ast.unparse(each) for each in node.decorator_list]
        if set(names) & set(KNOWN):
            continue
        made = node.name
        for decorator in reversed(names):
            made = f"{decorator}({made})"
        for each in node.decorator_list:
            for number in range(each.lineno, (each.end_lineno or 0) + 1):
                lines[number - 1] = None
        after[node.end_lineno or 0] = (
            f"{' ' * node.col_offset}{node.name} = {made}"
        )
    text = ""
    for number, line in enumerate(lines, start=1):
        text += "" if line is None else line + "\n"
        text += after[number] + "\n" if number in after else ""
    return text


def mutmut(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it there, as if the copy were what is installed."""
    return subprocess.run(
        [MUTMUT, *words],
        cwd=copy, text=True, capture_output=True, check=False,
    )  # fmt: skip


def results(copy: Path) -> Iterator[tuple[str, str]]:
    """Each mutant's name, and what became of it."""
    for line in mutmut(copy, "results", "--all", "true").stdout.splitlines():
        name, _, state = line.strip().rpartition(": ")
        if name:
            yield name, state


def shown(diff: str, name: str) -> Mutant:
    """A mutant, from its diff."""
    body = [
        line
        for line in diff.splitlines()
        if not line.startswith(("---", "+++", "#"))
    ]
    was, becomes = (
        " ".join(line[1:].strip() for line in body if line.startswith(sign))
        for sign in "-+"
    )
    function = name.rpartition("__mutmut")[0].rpartition(".")[2]
    return Mutant(
        function.removeprefix("x_").removeprefix("xǁ").replace("ǁ", "."),
        was,
        becomes,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
