# SPDX-License-Identifier: Apache-2.0
"""The tools say what they can do, and refuse the rest, uninstalled."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.soak.scenarios import SCENARIOS
from tests.soak.what import WHAT
from tools import nova

TOOLS = Path(__file__).parents[2] / "tools"
NAMES = sorted(path.stem for path in (TOOLS / "usage").glob("[!_]*.py"))
NAMES.remove("numbers")
NAMES.remove("cloud")  # which has commands


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the command lines need of a checkout that nobody installed."""
    shutil.copytree(TOOLS, tmp_path / "tools")
    (tmp_path / "tests" / "soak").mkdir(parents=True)
    for name in ("__init__.py", "soak/__init__.py", "soak/what.py"):
        shutil.copy(TOOLS.parent / "tests" / name, tmp_path / "tests" / name)
    install = tmp_path / "tools" / "install.sh"
    install.write_text("#!/bin/sh\necho installing >&2; exit 7\n")
    return tmp_path


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "tools" / words[0], *words[1:]],
        capture_output=True, text=True, cwd="/",
    )  # fmt: skip


def test_all_are_known() -> None:
    assert NAMES == ["bench", "chain", "demo", "soak"]


@pytest.mark.parametrize("name", NAMES)
def test_help_needs_no_installation(name: str, checkout: Path) -> None:
    done = run(checkout, f"{name}.sh", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name}.sh [-h]")
    assert "--json" in done.stdout


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", ["--wrong", "no-such-file"])
def test_a_wrong_argument_is_refused_uninstalled(
    name: str, wrong: str, checkout: Path
) -> None:
    done = run(checkout, f"{name}.sh", wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"{name}.sh: error: unrecognized arguments: {wrong}"
    )


def test_a_bench_of_two_things_is_refused(checkout: Path) -> None:
    done = run(checkout, "bench.sh", "--rdt", "--realtime")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "bench.sh: error: argument --realtime: not allowed with argument --rdt"
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_right_installs(name: str, checkout: Path) -> None:
    done = run(checkout, f"{name}.sh", "--json")
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == "installing\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, ""),
        (["up", "--help"], 0, ""),
        (["status", "--json"], 7, "installing"),
        (["up", "--computes", "3"], 2,
         ("cloud.sh up: error: argument --computes: invalid choice: 3 "
          "(choose from 1, 2)")),
        (["begin"], 2,
         ("cloud.sh: error: argument COMMAND: invalid choice: begin "
          "(choose from up, demo, status, down)")),
    ],
)  # fmt: skip
def test_the_cloud_before_it_is_installed(
    words: list[str], code: int, said: str, checkout: Path
) -> None:
    done = run(checkout, "cloud.sh", *words)
    assert done.returncode == code
    # What argparse quotes depends on Python's version.
    last = "".join(done.stderr.splitlines()[-1:])
    assert last.replace("'", "") == said
    assert bool(done.stdout) is (code == 0)


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("install.sh", ["--wrong"],
         "does not take arguments: --wrong"),
        ("options.sh", ["--wrong"],
         "--wrong is not an option: the only argument is a file"),
        ("versions.sh", ["24"], "24 is none of 25, 26, 27, newest"),
        ("nova.sh", ["34", "31"], "31 is none of 32, 33, 34"),
        ("options.sh", ["/nowhere/file"],
         "/nowhere/file: no such folder: /nowhere"),
    ],
)  # fmt: skip
def test_scripts_refuse_in_one_line(
    script: str, words: list[str], said: str
) -> None:
    done = run(TOOLS.parent, script, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{script}: {said}\n"


def test_every_scenario_is_described() -> None:
    assert list(WHAT) == list(SCENARIOS)


def test_what_mutants_change_and_who_must_notice_is_there() -> None:
    table = tomllib.loads((TOOLS.parent / "tests/mutants.toml").read_text())
    for module, tests in table["tests"].items():
        assert (TOOLS.parent / f"ceilometer_perf/{module}.py").exists()
        for name in tests:
            assert (TOOLS.parent / f"tests/unit/{name}.py").exists()
    assert table["equivalent"].keys() <= table["tests"].keys()


def test_novas_tests_must_pass_with_both_drivers() -> None:
    novas = {"a": "success", "b": "success", "c": "error", "d": "success"}
    ours = {"a": "success", "b": "failure", "c": "success", "e": "error"}
    assert nova.failed(novas, ours) == ["b", "c", "d", "e"]
    assert nova.count(novas, ours) == {
        (True, True): 1, (True, False): 2, (False, True): 1, (False, False): 1,
    }  # fmt: skip
