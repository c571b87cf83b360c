# SPDX-License-Identifier: Apache-2.0
"""Files that are none, or that no command may put another in place of."""

import os
from pathlib import Path

import pytest

from ceilometer_perf.report import answers
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


@pytest.mark.parametrize(
    "words",
    [
        ("guest", "resolve", "--vcpus", "1", "--nova-conf"),
        ("slice", "tree", "--nova-conf"),
        ("status", "--connect", "test:///default", "--config-file"),
    ],
)
def test_configuration_without_an_end(words: tuple[str, ...]) -> None:
    ran = shell.run(*words, "/dev/zero")
    assert (ran.code, ran.out) == (2, "")
    assert "/dev/zero: more than 4194304 bytes" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_an_option_that_refers_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "nova.conf"
    path.write_text("[libvirt]\nslice_spec = $slice_spec\n")
    ran = shell.run("slice", "tree", "--nova-conf", str(path))
    assert ran.code == 2
    assert f"{path}: an option's value refers to itself" in ran.err
    assert len(ran.err.splitlines()) == 1
