# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf meters``: the meter table."""

import argparse
from collections.abc import Iterator

from ceilometer_perf.cli import base
from ceilometer_perf.meters import METERS

COLUMNS = ("Meter", "Type", "Unit", "Since libvirt", "What it counts")


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    """The table, a row a meter, under COLUMNS."""
    for meter in METERS:
        since = ".".join(map(str, meter.since)) if any(meter.since) else "-"
        yield meter.name, meter.type, meter.unit, since, meter.description


class Meters(base.Lister):
    """List every meter that the pollsters can publish."""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
        """Columns and rows, which cliff formats."""
        return COLUMNS, rows()
