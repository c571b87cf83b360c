# SPDX-License-Identifier: Apache-2.0
"""Our meters in gnocchi_resources.yaml."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import yaml
from ceilometer.publisher import gnocchi as core_gnocchi

from ceilometer_perf.meters import METERS
from ceilometer_perf.report import gnocchi_resources
from tests.unit.shell import run

SPEC = importlib.util.find_spec("ceilometer")
assert SPEC is not None
assert SPEC.origin is not None
CORE = Path(SPEC.origin).parent / gnocchi_resources.CORE

#: What operators do to the file: the last metric, however it is written.
MINE = """\
# kept\r
resources:
  - resource_type: other
    metrics: {a: }
  -   metrics:   # of instances
        # memory first
        memory:   {archive_policy_name: mine}  # why
        perf.hw.cpu_cycles: &rate
            archive_policy_name: "mine-rate"
LAST
        # the end of them

      resource_type: instance
"""
LASTS = {
    "null": "        vcpus:  # of all",
    "scalar": "        vcpus: ''",
    "explicit null": "        vcpus: ~",
    "alias": "        vcpus: *rate",
    "alias on a line of its own": "        vcpus:\n            *rate",
    "braces": "        vcpus: {archive_policy_name: x,\n         unit: y}",
    "mapping": "        vcpus:\n           archive_policy_name: x  # x",
    "quoted": "        'vcpus':",
    "folded": "        vcpus:\n           archive_policy_name: >-\n"
    "             a\n             b",
    "literal": "        vcpus:\n           archive_policy_name: |\n"
    "             a\n\n             b\n",
    "deep": "        vcpus:\n          a:\n          - b:\n          - c: [d]",
    "question": "        ? vcpus\n        : archive_policy_name: x",
}


def merge(text: str) -> gnocchi_resources.Merged:
    return gnocchi_resources.merge(text, gnocchi_resources.Policies())


def instance(text: str) -> dict[str, dict[str, str] | None]:
    """The metrics of instances."""
    (found,) = (
        resource["metrics"]
        for resource in yaml.safe_load(text)["resources"]
        if resource["resource_type"] == "instance"
    )
    assert isinstance(found, dict)
    return found


def policies(path: Path) -> dict[str, str]:
    """What Ceilometer's publisher would tell Gnocchi."""
    publisher = core_gnocchi.GnocchiPublisher
    resources, _ = publisher._load_definitions(None, None, str(path))
    (found,) = (
        r.metrics for r in resources if r.cfg["resource_type"] == "instance"
    )
    return {
        name: extra["archive_policy_name"] for name, extra in found.items()
    }


def test_ceilometer_makes_of_it_what_is_meant(tmp_path: Path) -> None:
    path = tmp_path / gnocchi_resources.NAME
    path.write_text(merge(CORE.read_text()).text)
    found = policies(path)
    for meter in METERS:
        grows = meter.type == "cumulative"
        assert found.pop(meter.name) == (
            "ceilometer-low-rate" if grows else "ceilometer-low"
        )
    assert found == policies(CORE)


def test_nothing_of_cores_file_is_lost() -> None:
    before = CORE.read_text().splitlines(keepends=True)
    after = iter(merge(CORE.read_text()).text.splitlines(keepends=True))
    assert all(line in after for line in before)  # in this order


@pytest.mark.parametrize("text", [CORE.read_text(), MINE.replace("LAST", "")])
def test_a_second_time_changes_nothing(text: str) -> None:
    once = merge(text)
    assert once.added
    assert merge(once.text) == gnocchi_resources.Merged(once.text, (), ())


@pytest.mark.parametrize("last", LASTS.values(), ids=LASTS.keys())
def test_what_the_operator_wrote_stays(last: str) -> None:
    text = MINE.replace("LAST", last)
    merged = merge(text)
    ours = [m for m in METERS if m.name != "perf.hw.cpu_cycles"]
    assert merged.added == tuple(meter.name for meter in ours)
    after = instance(merged.text)
    for meter in ours:
        assert after.pop(meter.name) == (
            {"archive_policy_name": "ceilometer-low-rate"}
            if meter.type == "cumulative"
            else None
        )
    assert after == instance(text)
    first = merged.text.index(f"        {ours[0].name}:")
    assert merged.text.startswith(text[:first])
    assert merged.text.endswith(text[first:])
    assert text[first:].lstrip().startswith("# the end of them")


def test_the_end_of_the_file() -> None:
    text = "resources:\n- resource_type: instance\n  metrics:\n    a:"
    assert merge(text).text.startswith(f"{text}\n    {METERS[0].name}:\n")


def test_lines_end_as_they_do() -> None:
    text = CORE.read_text().replace("\n", "\r\n")
    merged = merge(text).text
    assert merged.count("\n") == merged.count("\r\n")
    assert merge(merged).text == merged


def test_what_another_resource_type_maps_is_not_mapped_twice() -> None:
    mine = "  - resource_type: mine\n    metrics: [perf.coverage]\n"
    merged = merge(CORE.read_text() + mine)
    assert "perf.coverage" not in merged.added
    assert "perf.coverage" not in instance(merged.text)


@pytest.mark.parametrize("name", ["high", "1", "yes", "a: b", "a b" * 99])
def test_other_policies(name: str) -> None:
    merged = gnocchi_resources.merge(
        CORE.read_text(), gnocchi_resources.Policies(name, name)
    )
    found = instance(merged.text)
    for meter in METERS:
        assert found[meter.name] == {"archive_policy_name": name}
    assert len(merged.warnings) == 2
    assert all(name in warning for warning in merged.warnings)


def test_doubts() -> None:
    core = CORE.read_text()
    assert merge(core).warnings == ()
    low = gnocchi_resources.Policies("ceilometer-low")
    (warning,) = gnocchi_resources.merge(core, low).warnings
    assert "rate" in warning
    overridden = core.replace(
        "type: instance\n", "type: instance\n    archive_policy: low\n"
    )
    (warning,) = merge(overridden).warnings
    assert "archive_policy of resource_type instance" in warning


# The command


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / gnocchi_resources.NAME
    path.write_bytes(CORE.read_bytes())
    return path


def test_cores_file_is_printed() -> None:
    ran = run("gnocchi-resources")
    assert (ran.code, ran.out) == (0, merge(CORE.read_text()).text)


def test_json(path: Path) -> None:
    shown = json.loads(run("gnocchi-resources", str(path), "-f", "json").out)
    assert shown == {
        "file": str(path),
        "added": [meter.name for meter in METERS],
        "warnings": [],
        "backup": None,
        "yaml": merge(CORE.read_text()).text,
    }


def test_in_place(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1, 2)
    owner = path.stat()
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    ran = run("gnocchi-resources", str(link), "--in-place")
    backup = tmp_path / f"{gnocchi_resources.NAME}.bak"
    assert ran.out == (
        f"{link}: 36 meters added; the original is in {backup}\n"
    )
    assert path.read_text() == merge(CORE.read_text()).text
    assert backup.read_bytes() == CORE.read_bytes()
    assert link.is_symlink()
    for each in path, backup:
        now = each.stat()
        assert (now.st_mode, now.st_uid, now.st_gid) == (
            owner.st_mode, owner.st_uid, owner.st_gid,
        )  # fmt: skip
    before = path.stat().st_ino
    ran = run("gnocchi-resources", str(path), "--in-place")
    assert ran.out.endswith("already mapped; nothing written\n")
    assert path.stat().st_ino == before
    assert backup.read_bytes() == CORE.read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("at", [1, 2])
def test_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Whether at the backup or at the file."""
    left = [None] * at
    backup = path.with_name(f"{path.name}.bak")
    backup.write_text("of the run before")

    def fsync(_: int) -> None:
        left.pop()
        if not left:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    ran = run("gnocchi-resources", str(path), "--in-place")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith(
        f"ceilometer-perf: error: FILE {path}: "
    )
    assert path.read_bytes() == CORE.read_bytes()
    assert not list(path.parent.glob(".*"))
    assert backup.read_text() == "of the run before"


def test_a_file_that_changed_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another run, say, whose backup this one's would replace."""
    text = CORE.read_text()

    def merged_late(*_: object) -> gnocchi_resources.Merged:
        path.write_text("another's")
        return gnocchi_resources.Merged(text + "#", ("a",), ())

    monkeypatch.setattr(gnocchi_resources, "merge", merged_late)
    ran = run("gnocchi-resources", str(path), "--in-place")
    assert ran.code == 2
    assert "changed in the meantime: run" in ran.err
    assert [each.read_text() for each in path.parent.iterdir()] == [
        "another's"
    ]


def _bomb(value: str) -> str:
    """What nine aliases a line make of a few lines."""
    lines = [f"a0: &a0 {value}"]
    for n in range(1, 9):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]")
    return "\n".join([*lines, f"{INSTANCE}  metrics:\n    a:\n"])


METHODS = "[{aggregation_methods: 5}]"
INSTANCE = "resources:\n- resource_type: instance\n"
BAD = {
    "not YAML": ("resources: [\n", ":2: not YAML: "),
    "nothing": ("", ":1: it must have a list of resources"),
    "a list": ("- a\n", ":1: it must have a list of resources"),
    "resources of text": (
        "resources: [a]\n", ":1: it must have a list of resources",
    ),
    "two documents": ("a: b\n---\nc: d\n", ":2: not YAML: "),
    "a tag": ("!!python/none a\n", ":1: not YAML: "),
    "control characters": ("a: \x00\n", ":1: not YAML: "),
    "no instance": (
        "resources:\n- resource_type: a\n  metrics: [b]\n",
        ":1: no resource_type instance",
    ),
    "no resource": ("resources: []\n", ":1: no resource_type instance"),
    "no metrics": (INSTANCE, ":2: the metrics of resource_type instance"),
    "null": (f"{INSTANCE}  metrics:\n", ":3: the metrics"),
    "a list of metrics": (f"{INSTANCE}  metrics:\n  - a\n", ":4: the metrics"),
    "braces": (f"{INSTANCE}  metrics: {{a: }}\n", ":3: the metrics"),
    "an alias": (
        f"a: &a\n  b:\n{INSTANCE}  metrics: *a\n", ":5: the metrics",
    ),
    "all in braces": (
        '{"resources": [{"resource_type": "instance", "metrics": {"a": 1}}]}',
        ":1: the metrics",
    ),
    "deep": ("[" * 600, ":1: not YAML: it is nested too deeply"),
    "aliases of aliases": (_bomb("[1, 2, 3]"), ":6: its aliases expand"),
    "part of itself": (
        f"{INSTANCE}  self: &a [*a]\n  metrics:\n    a:\n",
        ":1: not YAML: it is nested too deeply or in itself",
    ),
    "no list of policies": (
        f"archive_policies: 5\n{INSTANCE}  metrics:\n    a:\n",
        ":1: archive_policies must be a list",
    ),
    "no list of methods": (
        f"{INSTANCE}  metrics:\n    a:\narchive_policies: {METHODS}\n",
        ":1: aggregation_methods must be a list",
    ),
    "shared": (
        f"{INSTANCE}  metrics: &a\n    a:\n- metrics: *a\n",
        ":1: its layout",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD.keys())
def test_bad_files(path: Path, text: str, says: str) -> None:
    path.write_text(text)
    ran = run("gnocchi-resources", str(path), "--in-place")
    assert (ran.code, ran.out) == (2, "")
    assert f"{path}{says}" in ran.err.splitlines()[-1]
    assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_no_text(path: Path) -> None:
    path.write_bytes(b"a: \xff")
    assert "save it as UTF-8" in run("gnocchi-resources", str(path)).err


def test_too_much(path: Path) -> None:
    path.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    assert "more than 4194304 bytes" in run("gnocchi-resources", str(path)).err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--in-place",), "--in-place needs FILE"),
        (("-", "--in-place"), "--in-place needs FILE"),
        (("/no/such",), "FILE /no/such: "),
        (("--rate-policy", ""), "--rate-policy '': must be"),
        (("--gauge-policy", "a\nb"), "--gauge-policy 'a\\nb': must be"),
        (("/proc/self/status", "--in-place"), "/proc/self/status:"),
    ],
)
def test_bad_words(words: tuple[str, ...], says: str) -> None:
    ran = run("gnocchi-resources", *words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err.splitlines()[-1]
