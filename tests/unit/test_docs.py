# SPDX-License-Identifier: Apache-2.0
"""What the documentation shows is what the commands do."""

import argparse
import pathlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

from ceilometer_perf import guest
from ceilometer_perf import options as perf_options
from ceilometer_perf.cli.top import COLUMNS
from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.doctor import LINKS, agent_conf
from ceilometer_perf.events import EVENTS
from ceilometer_perf.host.probe import advice
from ceilometer_perf.report import gnocchi_resources
from ceilometer_perf.slices import context, rendering, spec
from ceilometer_perf.slices.breach import RULES
from tests.unit.probe_cases import FakeKernel, probed
from tests.unit.shell import run

SOURCE = pathlib.Path(__file__).parents[2] / "doc" / "source"
BLOCK = re.compile(
    r"^\.\. code-block:: console\n\n((?:(?:   .*)?\n)+)", re.MULTILINE
)
COMMANDS = entry_points(group="ceilometer_perf.cli")


def shown() -> Iterator[tuple[str, str]]:
    """Each command line of the documentation, with its output."""
    for path in sorted(SOURCE.glob("*.rst")):
        for block in BLOCK.findall(path.read_text()):
            line, _, output = textwrap.dedent(block).partition("\n")
            yield line.removeprefix("$ ceilometer-perf "), output.strip()


#: Code that operators type or copy.
CODE = re.compile(
    r"^ *\.\. code-block:: (?:shell|console|text)\n\n((?:(?: {3,}.*)?\n)+)",
    re.MULTILINE,
)
TYPED = re.compile(r"(?:^|[ /])ceilometer-perf ([a-z].*)")


def typed() -> Iterator[tuple[str, str]]:
    """Each command of code blocks, with its page; none of a synopsis."""
    for path in sorted(SOURCE.glob("*.rst")):
        for block in CODE.findall(path.read_text()):
            for line in re.sub(r"\\\n *", "", block).splitlines():
                found = TYPED.search(line)
                if found and not re.search(r"[\[(]|\.\.\.", line):
                    yield path.name, re.split(" *[#>|]", found[1])[0]


@pytest.mark.parametrize(("page", "line"), typed())
def test_what_is_typed_is_understood(page: str, line: str) -> None:
    words = shlex.split(line)
    names = {each.name.replace("_", " "): each for each in COMMANDS}
    name = next(
        name for name in (" ".join(words[:2]), words[0]) if name in names
    )
    parser = names[name].load()(None, None).get_parser(name)
    parser.parse_args(words[len(name.split()) :])


#: These ask neither the host nor libvirt.
RESOLVED = [s for s in shown() if s[0].startswith("guest resolve")]


@pytest.mark.parametrize(("line", "output"), RESOLVED)
def test_outputs_are_true(line: str, output: str) -> None:
    ran = run(*shlex.split(line))
    assert (ran.out + ran.err).strip() == output


def test_every_command_shows_its_output() -> None:
    assert len(RESOLVED) >= 4
    lines = [line for line, _ in shown()]
    for command in (
        "host probe", "guest check", "guest diff", "guest enable",
        "status", "doctor", "top", "slice generate", "slice tree",
        "slice validate", "slice render", "slice sync", "slice flavors",
        "slice choose",
    ):  # fmt: skip
        assert any(line.startswith(command) for line in lines)


def test_the_probe_of_a_vm_is_as_it_is_shown() -> None:
    line = "host probe --nova-conf"
    (output,) = [text for shown_line, text in shown() if shown_line == line]
    report = probed("vm", FakeKernel((1,)))
    assert advice.nova_conf(report).strip() == output


def test_gnocchi_resources_says_what_is_shown(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = run("gnocchi-resources").out
    assert core
    (tmp_path / "gnocchi_resources.yaml").write_bytes(
        agent_conf.core(gnocchi_resources.CORE).read_bytes()
    )
    monkeypatch.chdir(tmp_path)
    lines = [s for s in shown() if s[0].startswith("gnocchi-resources")]
    assert len(lines) == 2
    for line, output in lines:
        assert run(*shlex.split(line)).out.strip() == output
    assert (tmp_path / "gnocchi_resources.yaml").read_text() == core


def test_every_event_is_shown() -> None:
    text = (SOURCE / "commands.rst").read_text()
    assert all(f" {event} " in text for event in EVENTS)


def words(page: str) -> set[str]:
    """What a page names as code."""
    return set(re.findall(r"``([^`]+)``", (SOURCE / page).read_text()))


def test_every_verdict_and_option_is_explained() -> None:
    named = words("trust.rst")
    assert {verdict.value for verdict in Verdict} <= named
    assert {opt.name for opt in perf_options.OPTS} <= named


def test_every_link_and_column_is_explained() -> None:
    named = words("commands.rst")
    (walk,) = [output for line, output in shown() if line == "doctor"]
    told = re.findall(r"^[a-z]{2,8} +(entry points|\S+)", walk, re.M)
    assert [link.name for link in LINKS] == told
    assert {link.name for link in LINKS} <= named
    assert set(COLUMNS) <= named


def test_a_slices_page_names_all_that_a_template_may_use() -> None:
    named = words("slices.rst")
    instance = context.INSTANCE["properties"]
    assert {f"instance.{key}" for key in instance} <= named
    assert {*context.DISK["properties"]} <= named
    assert {*context.INTERFACE["properties"]} <= named
    assert {*spec.KEYS} <= named
    assert {*rendering.FILTERS} <= named


def test_every_rule_is_explained() -> None:
    assert set(RULES) <= words("commands.rst")


def test_the_context_is_explained() -> None:
    """All that the commands add to it, too."""
    asked = guest.Requirements(
        realtime=guest.Realtime(frozenset({1}), frozenset({0}))
    )
    one = spec.SliceSpec("a", "CUSTOM_A", "a.xml")
    full = context.full(context.SAMPLE, one, asked)
    added = {*full["slice"], *full["requirements"]}
    added |= {*full, *full["requirements"]["realtime"]}
    assert added - {"instance"} <= words("slices.rst")


def test_the_example_instance_is_one() -> None:
    example = SOURCE.parents[1] / "etc/slices/eight-gpus/instance.json"
    assert context.parse(example.read_bytes(), "")


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What a command adds to the options of its kind."""
    for action in parser._actions:
        ours = (o for o in action.option_strings if o.startswith("--"))
        yield from (option for option in ours if option not in GENERAL)


#: Of cliff: formats and columns.
GENERAL = {
    "--column", "--fit-width", "--format", "--help", "--max-width",
    "--noindent", "--prefix", "--print-empty", "--quote", "--sort-ascending",
    "--sort-column", "--sort-descending", "--variable",
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: str(c.name))
def test_every_option_is_in_the_reference(command: object) -> None:
    text = (SOURCE / "commands.rst").read_text()
    name = command.name.replace("_", " ")  # type: ignore[attr-defined]
    assert f"``{name}``" in text
    parser = command.load()(None, None).get_parser(name)  # type: ignore[attr-defined]
    assert [o for o in options(parser) if o not in text] == []
