# SPDX-License-Identifier: Apache-2.0
"""The result for one link of the chain."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ceilometer_perf.doctor.patient import Patient
from ceilometer_perf.plural import number_of

NAMED = 5  # things, before the others are only counted


class State(enum.StrEnum):
    """Of a link."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """A state with its reason and its remedy, each one line."""

    state: State
    reason: str
    remedy: str = ""


class BrokenError(Exception):
    """No sample passes this link."""

    def __init__(self, reason: str, remedy: str) -> None:
        """Keep apart what is wrong and what fixes it."""
        super().__init__(" ".join(reason.split()))
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Link:
    """A name for people, and what raises BrokenError if it is broken."""

    name: str
    check: Callable[[Patient], Finding]
    #: Whether only perf counters pass it.
    perf: bool = False
    #: Whether only compute hosts have it.
    compute: bool = True


def fine(reason: str) -> Finding:
    """Nothing to fix."""
    return Finding(State.OK, reason)


def warning(reason: str, remedy: str) -> Finding:
    """Some samples don't pass this link, or are not what they seem."""
    return Finding(State.WARNING, reason, remedy)


def listed(names: Iterable[str]) -> str:
    """A few of them, and the number of the others."""
    shown = list(names)
    text = ", ".join(shown[:NAMED])
    others = len(shown) - NAMED
    return f"{text} and {number_of(others, 'other')}" if others > 0 else text
