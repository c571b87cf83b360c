# SPDX-License-Identifier: Apache-2.0
"""The file in which the agent keeps what it has found, and what is usual.

``ceilometer-perf neighbours`` reads the first, and the agent itself the
second when it starts again: baselines take half an hour to learn. They are
those of QEMU processes, so those of an earlier boot of the host are dropped.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from oslo_log import log

from ceilometer_perf import files
from ceilometer_perf.changes import Changes
from ceilometer_perf.neighbours.judge import (
    CAUSES,
    OTHER,
    TAKEN,
    Found,
    Interference,
    Judge,
)
from ceilometer_perf.reading import Moment

#: Baselines change slowly, and are the greatest part: seconds between two
#: times that they are written.
SELDOM = 600.0
MOST = 64 << 20  # bytes
MANY = 1e30  # of anything that is found

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KEPT = "what is usual of instances"


@dataclass(frozen=True, slots=True)
class Said:
    """What the agent has found: when, and of whom, by UUID."""

    at: datetime
    names: Mapping[str, str]
    found: Found


class Kept:
    """The file. Not safe for threads."""

    def __init__(self, path: Path, boot_id: Path = _BOOT_ID) -> None:
        self._path = path
        self._boot = (files.peek(str(boot_id)) or b"").decode().strip()
        self._usual = "null"
        self._written_at: float | None = None
        self._changes = Changes(log.getLogger(__name__))

    def restore(self, judge: Judge) -> None:
        """Begin with what is usual; from the start, if that can't be read."""
        try:
            told = _read(self._path)
            if told["boot"] == self._boot and told["usual"] is not None:
                judge.restore(told["usual"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError) as exc:
            self._changes.trouble(
                "reading", f"{self._path}: {_KEPT} is learned again ({exc})"
            )

    def keep(
        self, judge: Judge, found: Found, names: Mapping[str, str],
        moment: Moment,
    ) -> None:  # fmt: skip
        """Write it all; if that fails, once a line in the log."""
        at = moment.taken_at
        if self._written_at is None or at - self._written_at >= SELDOM:
            self._usual = json.dumps(judge.saved())
            self._written_at = at
        head = {
            "boot": self._boot,
            "at": moment.at.isoformat(),
            "names": dict(names),
            "judged": sorted(found.judged),
            "untold": {u: dict(each) for u, each in found.untold.items()},
            "interferences": [
                dataclasses.asdict(each) for each in found.interferences
            ],
        }
        text = f'{json.dumps(head)[:-1]}, "usual": {self._usual}}}\n'
        try:
            _write(self._path, text)
        except OSError as exc:
            self._changes.trouble(
                "writing",
                f"{self._path}: can't be written ({files.why(exc)}), so "
                f"{_KEPT} is lost when the agent restarts, and "
                "'ceilometer-perf neighbours' has nothing to show",
            )
        else:
            self._changes.fine("writing", f"{self._path}: is written again")


def said(path: Path) -> Said:
    """What the agent has found last.

    :raises OSError: the file can't be read.
    :raises ValueError: it is not the agent's.
    """
    told = _read(path)
    try:
        return Said(
            _time(told["at"]),
            _texts(told["names"]),
            Found(
                [_interference(each) for each in told["interferences"]],
                frozenset(told["judged"]),
                {u: _texts(each) for u, each in told["untold"].items()},
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ValueError(OTHER) from exc


def _time(told: Any) -> datetime:
    at = datetime.fromisoformat(told)
    if at.tzinfo is None:
        raise ValueError("no time zone")
    return at


def _texts(told: Any) -> Mapping[str, str]:
    if not all(isinstance(text, str) for text in told.values()):
        raise TypeError("not a text")
    return dict(told)


def _interference(told: Any) -> Interference:
    found = Interference(**told)
    _texts({"victim": found.victim, "culprit": found.culprit})
    numbers = found.loss, found.correlation, found.cycles
    for number in (*numbers, *found.evidence.values()):
        # Nor a truth value, NaN, or more than a float has.
        if type(number) not in (int, float) or not abs(number) < MANY:
            raise TypeError("not a number")
    if found.cause not in CAUSES or not found.evidence.keys() >= TAKEN:
        raise ValueError("another agent's")
    return found


def _read(path: Path) -> Any:
    try:
        told = json.loads(files.read(path, MOST))
    except RecursionError:
        raise ValueError(OTHER) from None
    if not isinstance(told, dict):
        raise ValueError("must be a JSON object")
    return told


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text)
        os.replace(new, path)  # noqa: PTH105
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
