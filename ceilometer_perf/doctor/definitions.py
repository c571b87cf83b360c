# SPDX-License-Identifier: Apache-2.0
"""polling.yaml and pipeline.yaml: which meters their sources choose.

The rules are those of ``ceilometer.agent.Source``.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ceilometer_perf import files
from ceilometer_perf.doctor.finding import BrokenError

REMEDY = "fix the file: until then the agent does not start"

_LINE = "__line__"


class _Lines(yaml.SafeLoader):
    """Notes in each mapping the line where it starts."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        """The mapping, with the line as one more item."""
        made = super().construct_mapping(node, deep)
        return {**made, _LINE: node.start_mark.line + 1}


@dataclass(frozen=True, slots=True)
class Source:
    """A source of either file, and where it stands."""

    name: str
    meters: tuple[str, ...]
    sinks: tuple[str, ...]
    place: str
    #: Seconds between two cycles; None in pipeline.yaml.
    interval: int | None = None

    def chooses(self, meter: str) -> bool:
        """Whether a meter is meant."""
        excluded = [m[1:] for m in self.meters if m.startswith("!")]
        if any(fnmatch.fnmatch(meter, pattern) for pattern in excluded):
            return False
        included = self.included
        return not included or any(
            fnmatch.fnmatch(meter, pattern) for pattern in included
        )

    @property
    def included(self) -> tuple[str, ...]:
        """The names and wildcards that are asked for."""
        return tuple(m for m in self.meters if not m.startswith("!"))


def load(path: Path) -> Mapping[str, Any]:
    """A YAML file that holds a mapping.

    :raises BrokenError: it is missing or isn't one; a line that names
        the file and the line.
    """
    try:
        # Safe: it is a SafeLoader.
        found = yaml.load(files.read(path), _Lines)  # noqa: S506
    except OSError as error:
        raise BrokenError(
            f"{path}: {error.strerror}", _opening(path, error)
        ) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BrokenError(f"{path}:{line}: {error.problem}", REMEDY) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BrokenError(f"{path}:1: {error}", REMEDY) from error
    if not isinstance(found, dict):
        raise BrokenError(f"{path}:1: it must be a mapping", REMEDY)
    return found


def _opening(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"create {path} or name another file"
    if isinstance(error, PermissionError):
        return (
            "run this as the agent's user; if that may not read it either, "
            "let it: until then the agent does not start"
        )
    return REMEDY


def items(path: Path, found: Mapping[str, Any], key: str) -> list[Any]:
    """A list of mappings in a mapping.

    :raises BrokenError: it is something else.
    """
    line = found[_LINE]
    listed = found.get(key)
    if not isinstance(listed, list):
        raise BrokenError(f"{path}:{line}: {key} must be a list", REMEDY)
    for item in listed:
        if not isinstance(item, dict):
            raise BrokenError(
                f"{path}:{line}: {item!r} in {key} must be a mapping", REMEDY
            )
    return listed


def sources(path: Path, found: Mapping[str, Any], *needs: str) -> list[Source]:
    """The sources of either file; each has what it ``needs``.

    :raises BrokenError: the agent would not start with them.
    """
    return [
        _source(path, item, needs) for item in items(path, found, "sources")
    ]


def _source(
    path: Path, item: Mapping[str, Any], needs: Sequence[str]
) -> Source:
    place = f"{path}:{item[_LINE]}"
    for key in ("name", "meters", *needs):
        if not item.get(key):
            raise BrokenError(f"{place}: a source without {key}", REMEDY)
    source = Source(
        name=str(item["name"]),
        meters=texts(path, item, "meters"),
        sinks=texts(path, item, "sinks"),
        place=place,
        interval=_interval(place, item["interval"])
        if "interval" in needs
        else None,
    )
    named = [m for m in source.included if not m.startswith("*")]
    excludes = len(source.included) < len(source.meters)
    if named and (excludes or "*" in source.meters):
        raise BrokenError(
            f"{place}: source {source.name} mixes names with exclusions or *",
            REMEDY,
        )
    return source


def _interval(place: str, given: Any) -> int:
    try:
        interval = int(given)
    except (TypeError, ValueError, OverflowError):
        interval = 0
    if interval <= 0:
        raise BrokenError(
            f"{place}: interval must be a number of seconds of at least 1",
            REMEDY,
        )
    return interval


def texts(path: Path, item: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of texts in a mapping, empty where there is none.

    :raises BrokenError: it is something else.
    """
    found = item.get(key, [])
    if not isinstance(found, list) or not all(
        isinstance(text, str) and text for text in found
    ):
        raise BrokenError(
            f"{path}:{item[_LINE]}: {key} must be a list of names", REMEDY
        )
    return tuple(found)


def names(path: Path, item: Mapping[str, Any], key: str) -> list[str]:
    """What a list has, or a mapping has for keys, in a mapping.

    :raises BrokenError: it is something else.
    """
    found = item.get(key) or []
    if not isinstance(found, list | dict):
        raise BrokenError(
            f"{path}:{item[_LINE]}: {key} must be a list or a mapping", REMEDY
        )
    return [str(name) for name in found if name != _LINE]
