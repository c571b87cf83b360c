# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf doctor``: the first broken link, and how to fix it."""

import argparse
from collections.abc import Iterable, Sequence

from ceilometer_perf import doctor
from ceilometer_perf.cli import base, looking, options
from ceilometer_perf.cli.values import printable
from ceilometer_perf.doctor import agent_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host import nova_compute

BROKEN = 1  # the exit code if a link is broken; 2 is bad input

Row = tuple[str, str, str, str]


class Doctor(base.Lister):
    """Find the first broken link between nova.conf and Gnocchi."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The agent's options, and Nova's."""
        parser = super().get_parser(prog_name)
        options.add_agent(parser)
        options.add_nova_conf(
            parser,
            "nova.conf of this host (default: what nova-compute was started "
            "with, or would be)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Sequence[Row]]:
        """A row for each link."""
        conf = agent_conf.read(parsed_args.config_file, parsed_args.uri)
        patient = doctor.Patient(conf, _nova_conf(parsed_args.nova_conf))
        with looking.quiet(looking.SILENT):
            found = list(doctor.examine(patient))
        self.code = (
            BROKEN if any(f.state is doctor.State.BROKEN for _, f in found)
            else 0
        )  # fmt: skip
        rows = [(x.name, f.state.value, f.reason, f.remedy) for x, f in found]
        return ("link", "state", "reason", "remedy"), rows

    def show(
        self,
        parsed_args: argparse.Namespace,
        column_names: base.Names,
        data: Iterable[Row],
    ) -> None:
        """Lines: reasons are too long for a table."""
        for link, state, reason, remedy in data:
            lines = [f"{state:8} {link:15} {reason}"]
            if remedy:
                lines.append(f"{'':8} {'to fix it':15} {remedy}")
            self.app.stdout.writelines(f"{printable(x)}\n" for x in lines)


def _nova_conf(given: NovaFiles | None) -> NovaFiles | None:
    if given is None:
        return nova_compute.configuration()
    given.paths()  # bad input, not a broken link
    return given
