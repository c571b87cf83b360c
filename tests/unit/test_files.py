# SPDX-License-Identifier: Apache-2.0
"""Files that are none, or that no command may put another in place of."""

import os
from pathlib import Path

import pytest
from oslo_config import cfg

from ceilometer_perf.doctor import agent_conf, definitions
from ceilometer_perf.doctor.finding import BrokenError
from ceilometer_perf.host.processes import Processes
from ceilometer_perf.host.watching import Watching
from ceilometer_perf.report import answers
from ceilometer_perf.slices.errors import TemplateError
from ceilometer_perf.slices.template import Template
from tests.unit import shell


def test_a_report_takes_no_device_s_or_link_s_place(tmp_path: Path) -> None:
    """As root it would be /dev/null's, which all others write to."""
    real, link = tmp_path / "real.html", tmp_path / "link.html"
    real.write_text("old")
    link.symlink_to(real)
    answers.write(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    answers.write(pipe, "new")
    assert os.read(reader, 9) == b"new"
    os.close(reader)
    assert pipe.is_fifo()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("text", ["a", "\udcff"])
def test_a_report_leaves_nothing_half_written(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "folder" if text == "a" else tmp_path / "a.html"
    (tmp_path / "folder").mkdir()
    with pytest.raises(answers.ReportError, match="can't be written"):
        answers.write(path, text)
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.fixture(params=["pipe", "endless", "too large"])
def unfit(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A file that would hold a reader up, and what to say of it."""
    path = tmp_path / "unfit"
    if request.param == "pipe":
        os.mkfifo(path)
        return str(path), f"{path}: not a regular file"
    if request.param == "endless":
        return "/dev/zero", "/dev/zero: not a regular file"
    with path.open("w") as file:
        file.truncate(300 << 20)
    return str(path), f"{path}: more than "


@pytest.mark.parametrize(
    "words",
    [
        ("guest", "resolve", "--vcpus", "1", "--nova-conf"),
        ("guest", "check", "--xml"),
        ("slice", "tree", "--nova-conf"),
        ("slice", "generate", "--split=1/1", "--output=x", "--capabilities"),
        ("status", "--connect", "test:///default", "--config-file"),
        ("report", "x.html", "--from", "file", "--data"),
        ("gnocchi-resources", "--in-place"),
    ],
)
def test_files_without_an_end(
    words: tuple[str, ...], unfit: tuple[str, str]
) -> None:
    path, said = unfit
    ran = shell.run(*words, path)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_files_that_other_files_name(
    tmp_path: Path, unfit: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said = unfit
    with pytest.raises(BrokenError) as caught:
        definitions.load(Path(path))
    assert said in str(caught.value)
    with pytest.raises(TemplateError) as wrong:
        Template.read(path)
    assert path in str(wrong.value)
    monkeypatch.setattr(cfg, "find_config_files", lambda *_: [path])
    with pytest.raises(cfg.Error, match=said):
        agent_conf.read()


def test_a_pid_file_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "web.pid")
    assert Processes(tmp_path).guest("web", "web") is None
    helper = Watching(tmp_path, tmp_path)
    with pytest.raises(OSError, match="not a regular file"):
        helper.watch("web", "7d4ab4bd-f572-5a34-a3b9-2ad4ddea3499")


def test_an_option_that_refers_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "nova.conf"
    path.write_text("[libvirt]\nslice_spec = $slice_spec\n")
    ran = shell.run("slice", "tree", "--nova-conf", str(path))
    assert ran.code == 2
    assert f"{path}: an option's value refers to itself" in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        "guest resolve --vcpus 1 --nova-conf",
        "guest check --xml",
        "doctor --nova-conf",
        "doctor --config-file",
        "slice tree --nova-conf",
        "slice sync --nova-conf",
        "slice render --slice a --nova-conf b --instance-json",
        "slice generate --split 1/1 --output",
        "gnocchi-resources",
        "report",
    ],
)
def test_a_name_must_not_be_empty(words: str) -> None:
    ran = shell.run(*words.split(), "")
    assert ran.code == 2
    assert ran.err.endswith(": must name a file, and is empty\n")
