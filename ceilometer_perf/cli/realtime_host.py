# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf host probe --realtime``: the host of realtime guests."""

import argparse
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ceilometer_perf.cli import errors
from ceilometer_perf.cli.values import Value, printable
from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host import domains, nova_compute, realtime
from ceilometer_perf.host.probe import virt
from ceilometer_perf.host.realtime import Answer, State
from ceilometer_perf.plural import number_of

ROOT = Path("/")
UNMET = 1  # the exit code if a condition is not met; 2 is bad input


def examine(args: argparse.Namespace) -> list[Answer]:
    """Every condition on the host that was named."""
    root = args.root or ROOT
    if not (root / "proc").is_dir():
        raise errors.InputError(
            f"--root {root}: has no folder proc: name the root folder of a "
            "host, or of a copy of its /proc and /sys"
        )
    return realtime.examine(
        realtime.Host(_virt(args), _conf(args.nova_conf, root), root)
    )


def _virt(args: argparse.Namespace) -> virt.Virt:
    if virt.is_remote(args.uri):
        raise errors.InputError(
            f"--connect {args.uri}: --realtime examines this host: run it "
            "on the other one"
        )
    if args.root is None:
        return virt.ask(args.uri)
    library = domains.library_version()
    return virt.Virt(args.uri, library, error="not asked, because of --root")


def _conf(given: NovaFiles | None, root: Path) -> nova_conf.NovaConf | None:
    """What was named, or else what nova-compute reads here."""
    if given is not None and not given.names:
        raise errors.InputError(
            "--nova-conf must name a file or folder with --realtime"
        )
    if given is None and root == ROOT:
        given = nova_compute.configuration()
    return None if given is None else nova_conf.read(given)


def code(answers: Sequence[Answer]) -> int:
    """The exit code."""
    return UNMET if any(a.state is State.WRONG for a in answers) else 0


def shown(
    answers: Sequence[Answer],
) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    """For programs: by condition."""
    values = (dataclasses.asdict(answer) for answer in answers)
    named = {value.pop("condition"): Value(value) for value in values}
    return tuple(named), tuple(named.values())


def lines(names: Sequence[str], values: Sequence[Any]) -> Iterator[str]:
    """For people: reasons are too long for a table."""
    told = [
        (n, v.machine_readable()) for n, v in zip(names, values, strict=True)
    ]
    for name, answer in told:
        yield f"{answer['state']:8} {name:22} {printable(answer['found'])}"
        if answer["state"] != State.OK:
            yield f"{'':8} {'right':22} {answer['right']}"
            yield f"{'':8} {'why':22} {answer['why']}"
            yield f"{'':8} {'to fix it':22} {answer['remedy']}"
    states = Counter(answer["state"] for _, answer in told)
    counts = [_count(states[state], state) for state in State if states[state]]
    yield f"{number_of(len(told), 'condition')}: {', '.join(counts)}"


def _count(number: int, state: State) -> str:
    noun = state is State.WARNING
    return number_of(number, state) if noun else f"{number} {state}"
