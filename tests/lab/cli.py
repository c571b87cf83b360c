# SPDX-License-Identifier: Apache-2.0
"""A lab for manual use; it runs until it is taken down."""

import argparse
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import libvirt

from tests.lab import cleaning, keeper, requirements
from tests.lab.errors import LabError
from tests.lab.guests import KINDS, Guest, Kind
from tests.lab.lab import Lab
from tests.lab.resctrl import Hardware

FOLDER = Path("/run/ceilometer-perf-lab")
EXPECTED = (
    LabError,
    libvirt.libvirtError,
    OSError,
    subprocess.SubprocessError,
)
COMMAND = Path(sys.executable).with_name("ceilometer-perf")
STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTOFF: "shut off",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 and one line on stderr if that fails."""
    arguments = _parser().parse_args(argv)
    # libvirt prints its errors by itself, in addition to raising them.
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        requirements.check_root()
        arguments.run(arguments)
    except EXPECTED as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.sh", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run in (up, down, status):
        command = commands.add_parser(
            run.__name__, help=run.__doc__, description=run.__doc__
        )
        command.set_defaults(run=run)
        command.add_argument(
            "--folder", type=Path, default=FOLDER, help="default: %(default)s"
        )
        if run is up:
            _add_up_options(command)
    return parser


def _add_up_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--guests", type=_count, default=3, help="default: %(default)s"
    )
    command.add_argument(
        "--kind",
        choices=["mix", *KINDS],
        default="mix",
        help="what they do (default: each of these in turn)",
    )
    command.add_argument(
        "--fake-pmu",
        action="store_true",
        help="emulate the hardware counters that this host lacks",
    )
    command.add_argument(
        "--resctrl",
        action="store_true",
        help="emulate resctrl: L3 occupancy and memory bandwidth",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"not a number of guests: {text}")
    return int(text)


def up(arguments: argparse.Namespace) -> None:
    """Start a lab."""
    lab = Lab(
        fake_pmu=arguments.fake_pmu,
        resctrl=Hardware() if arguments.resctrl else None,
        folder=arguments.folder,
        owned=False,
    )
    lab.up()
    try:
        lab.start_all(_guests(arguments.guests, arguments.kind, lab))
        _write_conf(lab, resctrl=arguments.resctrl)
        _show(lab)
    except BaseException:
        lab.down()
        raise


def down(arguments: argparse.Namespace) -> None:
    """Stop the lab and remove everything that belongs to it."""
    there = cleaning.is_lab(arguments.folder)
    if there:
        keeper.take_down(arguments.folder)
    _say("the lab is down" if there else f"no lab in {arguments.folder}")


def status(arguments: argparse.Namespace) -> None:
    """Show the lab."""
    _show(Lab.at(arguments.folder))


def _guests(number: int, kind: str, lab: Lab) -> list[Guest]:
    kinds: Sequence[Kind] = [k for k in KINDS if kind in ("mix", k)]
    turns = itertools.islice(itertools.cycle(kinds), number)
    events = lab.events
    return [
        Guest(f"{kind}-{index}", kind, events=events)
        for index, kind in enumerate(turns, 1)
    ]


def _show(lab: Lab) -> None:
    _say(f"URI, to read:   {lab.uri_ro}")
    _say(f"URI, for root:  {lab.uri}")
    _say(f"libvirtd:       {lab.libvirtd.state}")
    _say(f"emulated:       {'; '.join(lab.emulates) or 'nothing'}")
    # A libvirtd that hangs would hold this up for ever.
    if lab.libvirtd.state == "running":
        for domain in lab.connection.listAllDomains():
            state = STATES.get(domain.state()[0], "in another state")
            _say(f"guest:          {domain.name()} {state}")
    _say(f"try:            virsh -c '{lab.uri_ro}' list --all")
    for command in ("status", "top"):
        _say(f"try:            {COMMAND} {command} --config-file {_conf(lab)}")


def _conf(lab: Lab) -> Path:
    return lab.folder / "ceilometer.conf"


def _write_conf(lab: Lab, *, resctrl: bool) -> None:
    """What makes commands look at this lab, and not at the host."""
    lines = [
        "[DEFAULT]",
        f"libvirt_uri = {lab.uri_ro}",
        "[perf]",
        f"qemu_run_dir = {lab.run_dir}/qemu",
    ]
    if resctrl:
        lines.append(f"resctrl_path = {lab.resctrl_path}")
    _conf(lab).write_text("".join(f"{line}\n" for line in lines))


def _say(line: str) -> None:
    print(line)  # noqa: T201


def _complain(line: str) -> None:
    print(f"lab.sh: {line}", file=sys.stderr)  # noqa: T201
