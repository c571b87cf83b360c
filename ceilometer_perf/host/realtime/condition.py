# SPDX-License-Identifier: Apache-2.0
"""What a realtime guest needs of its host: one condition, and its answer."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ceilometer_perf import cpus
from ceilometer_perf.host.cpu_sets import CPUs
from ceilometer_perf.host.realtime.host import Host
from ceilometer_perf.plural import number_of

NAMED = 3  # things, before the others are only counted


class State(enum.StrEnum):
    """Of a condition."""

    OK = "ok"
    #: A realtime guest doesn't start, or is delayed.
    WRONG = "wrong"
    #: It may be delayed, in some cases.
    WARNING = "warning"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Found:
    """What is, and whether that is right; None if nobody can tell."""

    right: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. ``{cpus}`` in its texts are those to be kept free."""

    name: str
    look: Callable[[Host], Found]
    right: str
    why: str
    remedy: str
    #: Of a host that does not meet it.
    otherwise: State = State.WRONG
    #: Whether it can't be judged before these CPUs are known.
    of_cpus: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A condition on one host; the texts are one line each."""

    condition: str
    state: State
    found: str
    right: str
    why: str
    remedy: str


def answer(condition: Condition, host: Host) -> Answer:
    """Look whether a host meets a condition."""
    if condition.of_cpus and not host.cpus:
        found = Found(None, "the CPUs of realtime guests are unknown")
    else:
        found = condition.look(host)
    names = {"cpus": cpus.text(host.cpus) or "CPUS"}
    return Answer(
        condition=condition.name,
        state=_state(found, condition),
        found=found.text,
        right=condition.right.format(**names),
        why=condition.why.format(**names),
        remedy=condition.remedy.format(**names),
    )


def _state(found: Found, condition: Condition) -> State:
    if found.right is None:
        return State.UNKNOWN
    return State.OK if found.right else condition.otherwise


def sysctl(line: str) -> str:
    """The remedy where a kernel parameter is wrong."""
    return f"set {line} in /etc/sysctl.d/realtime.conf, then: sysctl --system"


# What many conditions look at


def value(path: str, *right: str, absent: str = "") -> Callable[..., Found]:
    """A file that must say one of some things.

    ``absent``: what it means if there is none, which is right then.
    """

    def look(host: Host) -> Found:
        text = host.text(path)
        if text is None:
            return Found(bool(absent) or None, absent or f"no /{path}")
        return Found(text in right, text)

    return look


def covers(found: CPUs | None, host: Host, what: str) -> Found:
    """These CPUs must contain all that are to be kept free."""
    if found is None:
        return Found(False, f"{what}: not in this kernel")
    text = f"{what}: {cpus.text(found) or 'none'}"
    missing = host.cpus - found
    if missing and found & host.cpus:
        text += f", without {cpus.text(missing)}"
    return Found(not missing, text)


def spares(found: CPUs | None, host: Host, what: str) -> Found:
    """These CPUs must contain none that is to be kept free."""
    if found is None:
        return Found(None, f"{what}: unknown")
    return Found(
        not found & host.cpus, f"{what}: {cpus.text(found) or 'none'}"
    )


def listed(names: Iterable[str]) -> str:
    """A few of them, and the number of the others."""
    shown = list(dict.fromkeys(names))
    others = len(shown) - NAMED
    text = ", ".join(shown[:NAMED])
    return f"{text} and {number_of(others, 'other')}" if others > 0 else text


def counted(what: str, named: Iterable[str]) -> str:
    """How many there are, and a few of their names."""
    names = list(named)
    some = ", ".join([*dict.fromkeys(names)][:NAMED])
    more = ", ..." if len(names) > NAMED else ""
    return f"{number_of(len(names), what)}: {some}{more}"
