# SPDX-License-Identifier: Apache-2.0
"""Which slice an instance gets, and what is noted of it."""

import functools
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices.placement import providers, records
from ceilometer_perf.slices.placement.choice import Chooser, kept
from ceilometer_perf.slices.placement.encoding import encode
from ceilometer_perf.slices.placement.errors import ChoiceError
from ceilometer_perf.slices.placement.providers import Node
from ceilometer_perf.slices.placement.records import Records
from tests.unit.fake_placement import FakePlacement
from tests.unit.slice_trees import EIGHT, tree

NODE = Node(str(uuid.UUID(int=1)), "node")
ELSEWHERE = str(uuid.UUID(int=2))
Allocation = Mapping[str, Mapping[str, int]]


class Host:
    """One with eight accelerators, and what runs on it."""

    def __init__(self, folder: Path) -> None:
        self.placement = FakePlacement(NODE.uuid, NODE.name)
        self.tree = tree(EIGHT)
        self.encoded = encode(self.tree)
        self.allocations = functools.partial(
            providers.allocations, self.placement.client
        )
        self.running: dict[str, tuple[str, ...]] = {}
        self.path = folder / "records.json"
        self.records = Records(self.path)
        self.read_after: list[int] = []

    def allocate(self, consumer: str, slice_name: str) -> None:
        """As the scheduler would, for a slice of this kind."""
        claim = self.encoded.claim(self.tree, slice_name)
        self.placement.allocations[consumer] = {
            providers.provider_uuid(NODE, name): dict(units)
            for name, units in claim.items()
        }

    def choose(self, consumer: str) -> str:
        chooser = Chooser(self.allocations, NODE, self.tree, self.encoded)
        return chooser.choose(consumer, lambda: self.running, self.records)

    @property
    def noted(self) -> Mapping[str, str]:
        return self.records.read()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


SINGLES = [f"8_1-1-{n}" for n in range(1, 5)]


def test_parts_in_the_order_of_nova_conf(host: Host) -> None:
    for n, name in enumerate(SINGLES):
        host.allocate(f"vm-{n}", "8_1-1-1")
        assert host.choose(f"vm-{n}") == name
    assert host.noted == {f"vm-{n}": name for n, name in enumerate(SINGLES)}
    # Asked again, the same.
    for n, name in enumerate(SINGLES):
        assert host.choose(f"vm-{n}") == name


def test_each_half_is_known_by_its_provider(host: Host) -> None:
    host.allocate("second", "8_1-2")
    host.allocate("first", "8_1-1")
    assert host.choose("second") == "8_1-2"
    assert host.choose("first") == "8_1-1"


def test_what_runs_is_not_given_again(host: Host) -> None:
    host.running = {SINGLES[0]: ("other",), SINGLES[1]: ("vm",)}
    for consumer in "other", "vm", "new":
        host.allocate(consumer, "8_1-1-1")
    assert host.choose("new") == SINGLES[2]
    # Who runs has its slice, and needs no note.
    assert host.choose("vm") == SINGLES[1]
    assert host.noted == {"new": SINGLES[2]}


def test_what_runs_goes_before_what_is_noted(host: Host) -> None:
    host.allocate("vm", "8_1-1-1")
    host.records.write({"vm": SINGLES[2]})
    host.running = {SINGLES[3]: ("vm",)}
    assert host.choose("vm") == SINGLES[3]
    assert host.noted == {}


def test_noted_once_goes_before_the_first_that_is_free(host: Host) -> None:
    host.allocate("vm", "8_1-1-1")
    host.records.write({"vm": SINGLES[2]})
    assert host.choose("vm") == SINGLES[2]
    assert host.noted == {"vm": SINGLES[2]}


def test_a_note_of_who_has_no_allocation_any_more_is_dropped(
    host: Host,
) -> None:
    host.allocate("new", "8_1-1-1")
    host.allocate("moved", "8_1-2-1")
    host.records.write(
        {"gone": SINGLES[0], "moved": SINGLES[1], "old": "no such slice"}
    )
    assert host.choose("new") == SINGLES[0]
    assert host.noted == {"new": SINGLES[0]}


def test_a_note_of_who_has_one_counts(host: Host) -> None:
    host.allocate("new", "8_1-1-1")
    host.allocate("given", "8_1-1-1")
    # Whatever stands before it.
    host.records.write({"a": "no such slice", "given": SINGLES[0]})
    assert host.choose("new") == SINGLES[1]
    assert host.noted == {"given": SINGLES[0], "new": SINGLES[1]}


def test_a_note_of_who_runs_elsewhere_by_now_frees_it(host: Host) -> None:
    host.allocate("new", "8_1-1-1")
    host.allocate("runs", "8_1-1-1")
    host.records.write({"runs": SINGLES[0]})
    host.running = {SINGLES[3]: ("runs",)}
    assert host.choose("new") == SINGLES[0]
    assert host.noted == {"new": SINGLES[0]}


def test_who_is_resized_on_its_host_has_both_slices(host: Host) -> None:
    """Until its domain is defined again; a migration has the one of before."""
    host.running = {"8_1-1": ("vm",)}
    host.allocate("migration", "8_1-1")
    for consumer in "vm", "new":
        host.allocate(consumer, "8_1-2-1")
    assert host.choose("vm") == "8_1-2-1"
    assert host.choose("new") == "8_1-2-2"
    assert host.noted == {"vm": "8_1-2-1", "new": "8_1-2-2"}
    host.running = {"8_1-2-1": ("vm",)}
    assert host.choose("new") == "8_1-2-2"
    assert host.noted == {"new": "8_1-2-2"}


def test_what_overlaps_is_not_given(host: Host) -> None:
    host.allocate("whole", "8_1")
    host.allocate("half", "8_1-1")
    host.running = {SINGLES[0]: ("single",)}
    host.allocate("single", "8_1-1-1")
    for consumer, name in (("whole", "8_1"), ("half", "8_1-1")):
        with pytest.raises(ChoiceError, match=f"None of {name} is free") as no:
            host.choose(consumer)
        assert "allocated one to " + consumer in str(no.value)
        assert f"single has {SINGLES[0]}" in str(no.value)
    assert not host.path.exists()


def test_who_asks_is_not_in_its_own_way(host: Host) -> None:
    host.allocate("vm", "8_1-1-1")
    host.running = {SINGLES[0]: ("vm", "other")}
    host.allocate("other", "8_1-1-1")
    # Two in one: the one that asks gets another.
    assert host.choose("vm") == SINGLES[1]


def test_none_is_free(host: Host) -> None:
    for name in SINGLES:
        host.allocate(f"in-{name}", name)
        host.running[name] = (f"in-{name}",)
    host.allocate("one-more", "8_1-1-1")
    with pytest.raises(ChoiceError) as refused:
        host.choose("one-more")
    assert str(refused.value) == (
        f"None of {', '.join(SINGLES)} is free, although Placement "
        "allocated one to one-more: "
        + ", ".join(f"in-{name} has {name}" for name in SINGLES)
        + ". Has an instance here no allocation?"
    )


@pytest.mark.parametrize(
    "allocation", [{}, {ELSEWHERE: {"VCPU": 4, "CUSTOM_SLICE_1": 1}}]
)
def test_no_allocation_of_a_slice(host: Host, allocation: Allocation) -> None:
    host.placement.allocations["vm"] = {
        key: dict(units) for key, units in allocation.items()
    }
    with pytest.raises(ChoiceError, match=r"^vm has no allocation .* of node"):
        host.choose("vm")


def test_other_providers_do_not_matter(host: Host) -> None:
    host.allocate("vm", "8_1-1-1")
    host.placement.allocations["vm"][ELSEWHERE] = {"VCPU": 4}
    assert host.choose("vm") == SINGLES[0]


def test_an_allocation_that_no_slice_asks(host: Host) -> None:
    root = providers.provider_uuid(NODE, "8_1")
    half = providers.provider_uuid(NODE, "8_1-1")
    host.placement.allocations["vm"] = {
        root: {"CUSTOM_SLICE_8": 7},
        half: {"CUSTOM_SLICE_1": 3},
    }
    with pytest.raises(ChoiceError) as refused:
        host.choose("vm")
    assert str(refused.value).startswith(
        "vm has {'CUSTOM_SLICE_8': 7} at 8_1; {'CUSTOM_SLICE_1': 3} at 8_1-1,"
        " which matches no slice"
    )


def test_running_is_read_after_placement(host: Host) -> None:
    """Who had no allocation when Placement was asked may run by now."""
    host.allocate("vm", "8_1-1-1")
    asked: list[str] = []
    get = host.placement.get

    def noted(path: str, key: str) -> object:
        asked.append(path)
        return get(path, key)

    host.placement.get = noted  # type: ignore[method-assign]

    def running() -> dict[str, tuple[str, ...]]:
        assert asked == ["/allocations/vm"]
        return {SINGLES[0]: ("late",)}

    chooser = Chooser(host.allocations, NODE, host.tree, host.encoded)
    assert chooser.choose("vm", running, host.records) == SINGLES[1]


# A domain in a slice that nova.conf does not have


@pytest.mark.parametrize("allocated", [None, "8_1-1-1", "8_1-1-2"])
def test_an_unknown_slice_that_may_be_there(
    host: Host, allocated: str | None
) -> None:
    host.allocate("vm", "8_1-1-1")
    host.running = {"renamed": ("stray",)}
    if allocated:
        host.allocate("stray", allocated)
    with pytest.raises(ChoiceError, match="Domain stray has the slice ren"):
        host.choose("vm")
    assert not host.path.exists()


def test_an_unknown_slice_that_is_elsewhere(host: Host) -> None:
    host.allocate("vm", "8_1-1-1")
    host.allocate("stray", "8_1-2-1")
    host.running = {"renamed": ("stray",)}
    assert host.choose("vm") == SINGLES[0]


def test_an_unknown_slice_of_the_one_who_asks(host: Host) -> None:
    host.allocate("vm", "8_1-1-1")
    host.running = {"renamed": ("vm",)}
    assert host.choose("vm") == SINGLES[0]
    assert host.noted == {"vm": SINGLES[0]}


def test_all_who_run_are_looked_at(host: Host) -> None:
    host.allocate("vm", "8_1-1-1")
    host.allocate("known", "8_1-1-1")
    host.running = {
        SINGLES[0]: ("known",),
        "renamed": ("vm", "stray"),
    }
    with pytest.raises(ChoiceError, match="stray"):
        host.choose("vm")


# Records


def conf(folder: Path, state: Path | None = None) -> NovaFiles:
    path = folder / "nova.conf"
    path.write_text(f"[DEFAULT]\nstate_path = {state or folder}\n")
    return NovaFiles((path,))


def test_records_are_kept(tmp_path: Path) -> None:
    with records.locked(records.folder(conf(tmp_path)), NODE.uuid) as kept:
        assert kept.read() == {}
        kept.write({"b": "2", "a": "1"})
    with records.locked(records.folder(conf(tmp_path)), NODE.uuid) as kept:
        assert kept.read() == {"a": "1", "b": "2"}
    with records.locked(records.folder(conf(tmp_path)), ELSEWHERE) as kept:
        assert kept.read() == {}
    path = tmp_path / "slices" / f"{NODE.uuid}.json"
    assert path.read_text() == '{\n  "a": "1",\n  "b": "2"\n}'


@pytest.mark.parametrize(
    "text", ["", "x", "[]", '{"a": 1}', '{"a": "b", "c": null}', "null"]
)
def test_records_that_somebody_changed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "records.json"
    path.write_text(text)
    with pytest.raises(ChoiceError, match="is corrupt: remove it"):
        Records(path).read()


def test_half_of_the_records_is_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.json"
    kept = Records(path)
    kept.write({"a": "1"})

    def fail(number: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        kept.write({"a": "2"})
    assert kept.read() == {"a": "1"}
    monkeypatch.undo()
    kept.write({"a": "3"})
    assert json.loads(path.read_text()) == {"a": "3"}
    assert list(tmp_path.iterdir()) == [path]


def test_records_are_on_the_disk_before_they_replace_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "records.new"
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(new.read_text())
    )
    Records(tmp_path / "records.json").write({"a": "1"})
    assert [json.loads(text) for text in synced] == [{"a": "1"}]


def test_one_at_a_time(tmp_path: Path) -> None:
    path = conf(tmp_path)
    inside = threading.Event()

    def second() -> None:
        with records.locked(records.folder(path), NODE.uuid):
            inside.set()

    thread = threading.Thread(target=second)
    with records.locked(records.folder(path), NODE.uuid):
        thread.start()
        assert not inside.wait(0.2)
    assert inside.wait(30)
    thread.join()


LOCK = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    def another() -> int:
        lock = tmp_path / "slices" / NODE.uuid
        ran = subprocess.run([sys.executable, "-c", LOCK, lock], check=False)
        return ran.returncode

    with records.locked(records.folder(conf(tmp_path)), NODE.uuid):
        assert another() == 3
    assert another() == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with (
        pytest.raises(ChoiceError) as refused,
        records.locked(records.folder(conf(tmp_path, nowhere)), NODE.uuid),
    ):
        pass
    assert str(refused.value) == (
        f"{nowhere}/slices: No such file or directory; [DEFAULT] state_path "
        "of nova.conf must name a folder that this user may write to"
    )


def test_what_root_makes_is_nova_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}

    def chown(
        path: Path, user: int, group: int, *, follow_symlinks: bool
    ) -> None:
        given[path.name] = user, group, follow_symlinks

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    with records.locked(tmp_path / "slices", NODE.uuid) as noted:
        noted.write({})
    assert given == {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with records.locked(tmp_path / "slices", NODE.uuid) as noted:
        noted.write({})
    owner = tmp_path.stat()
    names = "slices", NODE.uuid, f"{NODE.uuid}.new"
    assert given == dict.fromkeys(names, (owner.st_uid, owner.st_gid, False))


def test_the_folder_is_where_distributions_have_it() -> None:
    (option,) = records.OPTS
    assert (option.name, option.default) == ("state_path", "/var/lib/nova")


@pytest.mark.parametrize(
    ("taken", "noted", "name"),
    [
        ({"8_1-1-2": ("vm",)}, {}, "8_1-1-2"),
        ({}, {"vm": "8_1-1-2"}, "8_1-1-2"),
        # A domain says it better than an old record, of anybody.
        ({"8_1-1-2": ("vm",)}, {"vm": "8_1-1-3"}, "8_1-1-2"),
        ({"8_1-1-2": ("vm",)}, {"other": "8_1-1-2"}, "8_1-1-2"),
        ({"8_1-1-2": ("vm",), "8_1-1-3": ("b",)}, {}, "8_1-1-2"),
        ({}, {}, None),
        ({}, {"other": "8_1-1-2"}, None),
        ({"8_1-1-2": ("vm", "other")}, {}, None),
        ({"8_1-1-2": ("vm",), "8_1-1-3": ("vm",)}, {}, None),
        ({"8_1-1-2": ("other",)}, {"vm": "8_1-1-2"}, None),
        ({"8_1-1-2": ("vm",), "8_1-1": ("other",)}, {}, None),
        ({}, {"vm": "8_1-1-2", "other": "8_1-1"}, None),
        # What isn't in nova.conf may overlap with any.
        ({"8_1-1-2": ("vm",), "gone": ("other",)}, {}, None),
        ({"gone": ("vm",)}, {}, None),
        ({}, {"vm": "gone"}, None),
    ],
)
def test_what_is_known_without_placement(
    taken: Mapping[str, tuple[str, ...]],
    noted: Mapping[str, str],
    name: str | None,
) -> None:
    assert kept(tree(EIGHT), "vm", taken, noted) == name
