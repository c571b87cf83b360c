# SPDX-License-Identifier: Apache-2.0
"""What all commands share."""

import subprocess
import sys
from pathlib import Path

import pytest

from ceilometer_perf.cli import options, table, values
from tests.unit.shell import run


def test_no_command_is_help_and_not_a_shell() -> None:
    ran = run()
    assert ran.code == 0
    assert "host probe" in ran.out


def test_an_unknown_command_is_named() -> None:
    ran = run("bogus")
    assert ran.code == 2
    assert "bogus" in ran.out  # where cliff says it


def test_libraries_say_nothing_on_stderr() -> None:
    """Each command is loaded; what warns when it is imported shows here."""
    script = (
        "from importlib.metadata import entry_points\n"
        "for command in entry_points(group='ceilometer_perf.cli'):\n"
        "    command.load()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_extras_are_imported_by_who_needs_them() -> None:
    script = (
        "import sys\n"
        "from importlib.metadata import entry_points\n"
        "for command in entry_points(group='ceilometer_perf.cli'):\n"
        "    if not command.name.startswith('slice'):\n"
        "        command.load()\n"
        "print('ceilometer_perf.slices' in sys.modules)\n"
        "for command in entry_points(group='ceilometer_perf.cli'):\n"
        "    command.load()\n"
        "print({'bokeh', 'jinja2', 'jsonschema'} & set(sys.modules))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert ran.stdout.split("\n")[:2] == ["False", "set()"]


COMMAND = Path(sys.executable).with_name("ceilometer-perf")


def sh(words: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of the command with these words after it."""
    return subprocess.run(
        ["sh", "-c", f"'{COMMAND}' {words}"], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("meters >/dev/full", "error: standard output: No space left"),
        ("meters -f json >/dev/full", "standard output: No space left"),
        ("--version >/dev/full", "error: standard output: No space left"),
        ("guest resolve --vcpus 1 >/dev/full", "standard output: No space"),
        ("help >/dev/full", "error: standard output: No space left"),
        ("meters --help >/dev/full", "standard output: No space left"),
        ("gnocchi-resources >/dev/full", "standard output: No space left"),
        ("host probe --nova-conf >/dev/full", "standard output: No space"),
        ("meters >&-", "error: standard output is closed"),
        ("guest check --xml - <&-", "--xml -: standard input is closed"),
    ],
)
def test_a_stream_that_does_not_work(words: str, said: str) -> None:
    ran = sh(words)
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert ran.returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["meters", "-c", "nope"], "No recognized column names in ['nope']"),
        (["--log-file", "/no/such", "meters"],
         "error: --log-file /no/such: No such file"),
        (["guest", "check", "--xml", "\033[31mno"], "--xml ?[31mno: "),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong(words: list[str], said: str) -> None:
    ran = run(*words)
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert ran.code == 2


def test_ctrl_c_while_modules_are_imported() -> None:
    script = (
        "import builtins, sys\n"
        "real = builtins.__import__\n"
        "def late(name, *rest):\n"
        "    if name.startswith('cliff'):\n"
        "        raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "from ceilometer_perf.cli.app import main\n"
        "assert not any(name.startswith('cliff') for name in sys.modules)\n"
        "builtins.__import__ = late\n"
        "sys.exit(main(['meters']))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


def test_errors_that_nobody_reads() -> None:
    assert sh("guest check --xml /no/such 2>&-").returncode == 2


def test_a_reader_that_has_seen_enough() -> None:
    ran = sh("meters | head -1")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_text_that_the_terminal_can_not_show(tmp_path: Path) -> None:
    path = tmp_path / "domain.xml"
    path.write_text("<domain><name>\u263a</name></domain>")
    ran = subprocess.run(
        [COMMAND, "guest", "apply", "--xml", path, "--flavor", "hw:pmu=on"],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "standard output cannot encode '\\u263a' in ascii" in ran.stderr


def test_warnings_do_not_colour_the_terminal() -> None:
    ran = sh(
        "guest check --xml tests/unit/golden/pmu-on/before.xml "
        "--flavor hw:pmu=$(printf '\\033')on"
    )
    assert "hw:pmu=?on is not a boolean" in ran.stderr


def test_names_in_tables_do_not_either() -> None:
    cell = values.Value("a\u009b31m\nb\u202e")
    assert cell.human_readable() == "a?31m\nb?"


@pytest.mark.parametrize("word", ["0K", "3K", "1T", "2K", "2"])
def test_no_size_of_a_page(word: str) -> None:
    with pytest.raises(ValueError, match=word):
        options.page_size(word)


def test_sizes_of_pages() -> None:
    assert [options.page_size(s) for s in ("4K", "2M", "1G")] == [
        4, 2048, 1048576,
    ]  # fmt: skip


UUID = "7d4ab4bd-f572-5a34-a3b9-2ad4ddea3499"


def test_a_table_is_broken_between_words() -> None:
    titles = ("id", "what")
    (row,) = table.fit(titles, [(UUID, "one two three four five")], 60)
    assert row == [UUID, "one two three\nfour five"]


def test_a_table_keeps_its_words_whole_and_what_fits_as_it_is() -> None:
    assert table.fit(("id",), [(UUID,)], 10) == [[UUID]]
    assert table.fit(("a", "b"), [("x y", 1)], 99) == [["x y", 1]]
    assert table.fit(("a",), [], 10) == []


def test_lines_go_on_below_their_last_column() -> None:
    line = "libvirt  no   it needs resctrl, and its features"
    ((cell,),) = table.fit(("a",), [(line,)], 34)
    assert cell.split("\n") == [
        "libvirt  no   it needs",
        "              resctrl, and its",
        "              features",
    ]


def test_a_column_that_is_left_out_takes_no_room() -> None:
    ran = run("meters", "-c", "Meter", "-c", "What it counts")
    assert max(map(len, ran.out.splitlines())) <= table.PIPE_WIDTH
    assert "| perf.hw.cpu_cycles" in ran.out
    wide = run("meters", "--max-width", "500").out
    assert max(map(len, wide.splitlines())) > table.PIPE_WIDTH
