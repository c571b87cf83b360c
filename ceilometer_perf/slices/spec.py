# SPDX-License-Identifier: Apache-2.0
"""``[libvirt] slice_spec`` of nova.conf: each slice of the host is one entry.

An entry is a JSON object on one line, as in::

    [libvirt]
    slice_spec = {"name": "half_1", "resource_class": "CUSTOM_SLICE_4",
                  "template_file": "half_1.xml", "conflict_parent": "whole"}

A template's path that isn't absolute starts from the folder of the entry's
file.
"""

import dataclasses
import json
import os
import pathlib
import re
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from oslo_config import cfg

from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices.errors import SpecError

OPTION = "slice_spec"
OPTS = [cfg.MultiStrOpt(OPTION, default=[])]


@dataclasses.dataclass(frozen=True)
class SliceSpec:
    """A slice: what it is called, what it counts as, what it looks like."""

    name: str
    #: Several slices may share one: so many of it there are.
    resource_class: str
    #: An absolute path.
    template_file: str
    #: The slice that this one is a part of; None: of no other.
    conflict_parent: str | None = None


@dataclasses.dataclass(frozen=True)
class _Key:
    required: bool
    pattern: re.Pattern[str]
    right: str


#: What each key may hold; nothing else may stand in an entry.
KEYS = {
    "name": _Key(
        True,
        re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"),
        "up to 100 letters, digits, dots, dashes and underscores, a letter or "
        "digit first",
    ),
    "resource_class": _Key(
        True,
        re.compile(r"CUSTOM_[A-Z0-9_]{1,248}"),
        "CUSTOM_ and capital letters, digits and underscores, 255 characters "
        "at most",
    ),
    "template_file": _Key(
        True, re.compile(r"[^\0]+", re.DOTALL), "the path of a file"
    ),
    "conflict_parent": _Key(
        False,
        re.compile(".+", re.DOTALL),
        "the name of another entry; leave it out for a slice that is part of "
        "no other",
    ),
}  # fmt: skip


def read(where: NovaFiles) -> tuple[SliceSpec, ...]:
    """The slices of nova.conf, in its order; those of all its files.

    :raises SpecError: an entry can't be used.
    :raises NovaRefusal: a file can't be read.
    """
    entries = [
        _Entry.parse(number, text, folder)
        for number, (text, folder) in enumerate(_texts(where), start=1)
    ]
    _refuse_twins(entries, "name", lambda entry: entry.spec.name)
    _refuse_twins(entries, "template_file", _Entry.file)
    _check_parents(entries)
    return tuple(entry.spec for entry in entries)


def _texts(where: NovaFiles) -> Iterator[tuple[str, pathlib.Path]]:
    """Each entry with the folder of its file."""
    for path in where.paths():
        folder = path.absolute().parent
        with nova_conf.opened(where.only(path), {"libvirt": OPTS}) as conf:
            yield from ((text, folder) for text in conf.libvirt.slice_spec)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """An entry, with the words for its place in the file."""

    where: str
    spec: SliceSpec

    @classmethod
    def parse(cls, number: int, text: str, folder: pathlib.Path) -> "_Entry":
        where = f"[libvirt] {OPTION}, entry {number}"
        fields = _object(where, text)
        name = fields.get("name")
        if isinstance(name, str) and KEYS["name"].pattern.fullmatch(name):
            where += f" ({name})"
        _check_keys(where, fields)
        template = str(folder / fields["template_file"])
        return cls(where, SliceSpec(**{**fields, "template_file": template}))

    def file(self) -> Hashable:
        """Which file the template really is, links or not."""
        path = self.spec.template_file
        try:
            found = pathlib.Path(path).stat()
        except (OSError, ValueError) as error:
            raise _unreadable(self.where, path, error) from error
        if not stat.S_ISREG(found.st_mode):
            raise _unreadable(self.where, path, "not a file")
        if not os.access(path, os.R_OK):
            raise _unreadable(self.where, path, "permission denied")
        return found.st_dev, found.st_ino


def _unreadable(where: str, path: str, why: object) -> SpecError:
    reason = why.strerror if isinstance(why, OSError) else why
    return SpecError(
        f"{where}, template_file: can't read {path[:200]}: {reason}; name a "
        "file that nova-compute's user can read"
    )


def _object(where: str, text: str) -> dict[str, Any]:
    """The JSON object, with each key once."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise SpecError(f"{where}: the key {twice!r} is given twice")
        return fields

    try:
        fields = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise SpecError(
            f"{where}: not JSON ({error}); write one JSON object, all of it "
            f"after one {OPTION} ="
        ) from error
    if not isinstance(fields, dict):
        raise SpecError(
            f"{where}: {text[:40]!r} must be a JSON object: write "
            '{"name": ..., "resource_class": ..., "template_file": ...}'
        )
    return fields


def _check_keys(where: str, fields: dict[str, Any]) -> None:
    unknown = [key for key in fields if key not in KEYS]
    if unknown:
        raise SpecError(
            f"{where}: unknown key {unknown[0][:40]!r}; the keys are "
            f"{', '.join(KEYS)}"
        )
    for name, key in KEYS.items():
        if name not in fields:
            if key.required:
                raise SpecError(f"{where}: {name} is missing: {key.right}")
            continue
        value = fields[name]
        if not isinstance(value, str) or not key.pattern.fullmatch(value):
            shown = json.dumps(value)[:60]
            raise SpecError(f"{where}, {name}: {shown} is not {key.right}")


def _refuse_twins(
    entries: Iterable[_Entry], key: str, value: Callable[[_Entry], Hashable]
) -> None:
    """Each must have another; the later one of two is named."""
    seen: dict[Hashable, _Entry] = {}
    for entry in entries:
        first = seen.setdefault(value(entry), entry)
        if first is not entry:
            raise SpecError(
                f"{entry.where}, {key}: {getattr(entry.spec, key)} is "
                f"already that of {first.where}; it must differ for every "
                "slice"
            )


def _check_parents(entries: Sequence[_Entry]) -> None:
    """Each names another entry, and none is part of itself."""
    by_name = {entry.spec.name: entry for entry in entries}
    for entry in entries:
        parent = entry.spec.conflict_parent
        if parent is not None and parent not in by_name:
            raise SpecError(
                f"{entry.where}, conflict_parent: no entry is named "
                f"{parent[:100]}; name one of the entries, or leave it out"
            )
    rooted: set[str | None] = {None}
    for entry in entries:
        way: dict[str, None] = {}  # ordered
        name: str | None = entry.spec.name
        while name is not None and name not in rooted:
            if name in way:
                _refuse_cycle(by_name[name], by_name)
            way[name] = None
            name = by_name[name].spec.conflict_parent
        rooted.update(way)


def _refuse_cycle(entry: _Entry, by_name: dict[str, _Entry]) -> None:
    circle = [entry.spec.name]
    while (name := by_name[circle[-1]].spec.conflict_parent) != circle[0]:
        circle.append(str(name))
    named = circle if len(circle) <= MOST_NAMED else [*circle[:3], "..."]
    raise SpecError(
        f"{entry.where}, conflict_parent: it is part of itself "
        f"({' in '.join([*named, circle[0]])}); remove conflict_parent from "
        "the largest of them"
    )


MOST_NAMED = 6  # slices in a message
