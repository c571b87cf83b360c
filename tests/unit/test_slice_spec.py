# SPDX-License-Identifier: Apache-2.0
"""``[libvirt] slice_spec``: what is taken and what is refused."""

import json
import os
import pathlib
from typing import Any

import pytest

from ceilometer_perf.guest.errors import NovaRefusal
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices import spec
from ceilometer_perf.slices.errors import SpecError

WHOLE = {"name": "whole", "resource_class": "CUSTOM_SLICE_8"}
HALF = {
    "name": "half",
    "resource_class": "CUSTOM_SLICE_4",
    "conflict_parent": "whole",
}


class Conf:
    """A nova.conf with entries, and a template for each of them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "nova.conf"
        for name in "abcdef":
            (folder / f"{name}.xml").write_text("<domain/>")
        self.texts: list[str] = []

    def add(self, **fields: Any) -> "Conf":
        letter = "abcdef"[len(self.texts)]
        entry = {"template_file": f"{letter}.xml", **fields}
        kept = {key: v for key, v in entry.items() if v is not ...}
        return self.add_text(json.dumps(kept))

    def add_text(self, text: str) -> "Conf":
        self.texts.append(text)
        lines = (f"slice_spec = {text}\n" for text in self.texts)
        self.path.write_text("[libvirt]\n" + "".join(lines))
        return self

    def refusal(self) -> str:
        with pytest.raises(SpecError) as caught:
            spec.read(NovaFiles((self.path,)))
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 600
        return message


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> Conf:
    return Conf(tmp_path)


def test_entries(conf: Conf, tmp_path: pathlib.Path) -> None:
    conf.add(**WHOLE).add(**HALF).add(
        **{**HALF, "name": "other"}, template_file=str(tmp_path / "f.xml")
    )
    assert spec.read(NovaFiles((conf.path,))) == (
        spec.SliceSpec("whole", "CUSTOM_SLICE_8", str(tmp_path / "a.xml")),
        spec.SliceSpec(
            "half", "CUSTOM_SLICE_4", str(tmp_path / "b.xml"), "whole"
        ),
        spec.SliceSpec(
            "other", "CUSTOM_SLICE_4", str(tmp_path / "f.xml"), "whole"
        ),
    )


def test_a_part_may_come_before_its_whole(conf: Conf) -> None:
    conf.add(**HALF).add(**WHOLE)
    assert [s.name for s in spec.read(NovaFiles((conf.path,)))] == [
        "half",
        "whole",
    ]


def test_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "nova.conf").write_text("[DEFAULT]\n")
    assert spec.read(NovaFiles((tmp_path / "nova.conf",))) == ()


def test_a_relative_path_of_the_file(
    conf: Conf, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf.add(**WHOLE)
    monkeypatch.chdir(tmp_path)
    (found,) = spec.read(NovaFiles((pathlib.Path("nova.conf"),)))
    assert found.template_file == str(tmp_path / "a.xml")


def test_no_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NovaRefusal, match=r"nova\.conf"):
        spec.read(NovaFiles((tmp_path / "nova.conf",)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "unknown key 'colour'; the keys are name,"),
        ({"resource_class": ...}, "resource_class is missing: CUSTOM_"),
        ({"template_file": ...}, "template_file is missing"),
        ({"resource_class": 8}, ", resource_class: 8 is not CUSTOM_"),
        ({"resource_class": "CUSTOM_"}, '"CUSTOM_" is not CUSTOM_ and'),
        ({"resource_class": "CUSTOM_a"}, '"CUSTOM_a" is not'),
        ({"resource_class": "VGPU"}, '"VGPU" is not'),
        ({"resource_class": "CUSTOM_A\n"}, "is not"),
        ({"resource_class": "CUSTOM_" + "A" * 249}, "255 characters"),
        ({"conflict_parent": None}, "null is not the name of another"),
        ({"conflict_parent": ["whole"]}, "is not the name of another"),
        ({"conflict_parent": ""}, "is not the name of another"),
        ({"conflict_parent": "none"}, "no entry is named none"),
        ({"conflict_parent": "x" * 9999}, "no entry is named xxx"),
        ({"template_file": ""}, ', template_file: "" is not'),
        ({"template_file": "a\0b"}, ", template_file:"),
        ({"template_file": "none.xml"}, "No such file"),
        ({"template_file": "."}, "not a file"),
        ({"template_file": "x" * 9000}, "File name too long"),
    ],
)
def test_refusals(conf: Conf, change: dict[str, Any], said: str) -> None:
    message = conf.add(**WHOLE).add(**{**HALF, **change}).refusal()
    assert message.startswith("[libvirt] slice_spec, entry 2 (half)")
    assert said in message


@pytest.mark.parametrize(
    "name", ["", "a b", "<b/>", "a\n", "-a", "x" * 101, 7, None, ..., "ä"]
)
def test_bad_names(conf: Conf, name: Any) -> None:
    message = conf.add(**WHOLE).add(**{**HALF, "name": name}).refusal()
    assert message.startswith("[libvirt] slice_spec, entry 2")
    assert "up to 100 letters" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("whole", "not JSON"),
        ('{"name": "whole"', "not JSON"),
        ("", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("1" * 100000, "not JSON"),
        ('["whole"]', "must be a JSON object"),
        ('{"name": "a", "name": "b"}', "the key 'name' is given twice"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' is given twice"),
    ],
)
def test_no_object(conf: Conf, text: str, said: str) -> None:
    message = conf.add(**WHOLE).add_text(text).refusal()
    assert message.startswith("[libvirt] slice_spec, entry 2")
    assert said in message


def test_twin_names(conf: Conf) -> None:
    message = conf.add(**WHOLE).add(**HALF).add(**HALF).refusal()
    assert "entry 3 (half), name: half is already that of" in message
    assert "entry 2 (half)" in message


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_twin_templates(conf: Conf, tmp_path: pathlib.Path, link: Any) -> None:
    name = "a.xml"
    if link:
        name = "link.xml"
        link(tmp_path / "a.xml", tmp_path / name)
    message = conf.add(**WHOLE).add(**HALF, template_file=name).refusal()
    assert "entry 2 (half), template_file" in message
    assert "entry 1 (whole)" in message


def test_a_pipe_is_no_template(conf: Conf, tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in conf.add(**WHOLE, template_file="pipe").refusal()


def test_cycles(conf: Conf) -> None:
    conf.add(**WHOLE)
    for name, parent in ("a", "b"), ("b", "c"), ("c", "b"):
        conf.add(**{**HALF, "name": name, "conflict_parent": parent})
    message = conf.refusal()
    assert "entry 3 (b), conflict_parent: it is part of itself" in message
    assert "(b in c in b)" in message


def test_part_of_itself(conf: Conf) -> None:
    message = conf.add(**{**HALF, "conflict_parent": "half"}).refusal()
    assert "(half in half)" in message
