# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf gnocchi-resources``: what Gnocchi's publisher maps."""

import argparse
import pathlib
from typing import Any

from oslo_log import log

from ceilometer_perf.cli import base, errors, options, replace
from ceilometer_perf.doctor import agent_conf
from ceilometer_perf.plural import number_of
from ceilometer_perf.report import gnocchi_resources
from ceilometer_perf.report.gnocchi_resources import Merged

LOG = log.getLogger(__name__)


class Resources(base.Text):
    """Add all meters to gnocchi_resources.yaml, with archive policies."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The file, the policies, and where the result goes."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "file",
            nargs="?",
            type=options.name,
            metavar="FILE",
            help=f"{gnocchi_resources.NAME} to read; - is standard input "
            "(default: the installed Ceilometer's)",
        )
        parser.add_argument(
            "--in-place",
            action="store_true",
            help="rewrite FILE and keep the original as "
            f"FILE{replace.BACKUP} (default: print the result)",
        )
        parser.add_argument(
            "--rate-policy",
            default=gnocchi_resources.RATE_POLICY,
            metavar="NAME",
            help="archive policy of growing counters, with rate:mean "
            f"(default: {gnocchi_resources.RATE_POLICY})",
        )
        parser.add_argument(
            "--gauge-policy",
            metavar="NAME",
            help="archive policy of all other meters (default: the file's "
            "archive_policy_default, ceilometer-low in Ceilometer's)",
        )
        return parser

    def answer(self, parsed_args: argparse.Namespace) -> tuple[str, Any]:
        """The file, or the outcome."""
        if parsed_args.in_place and parsed_args.file in (None, "-"):
            raise errors.InputError("--in-place needs FILE")
        name = parsed_args.file or str(agent_conf.core(gnocchi_resources.CORE))
        before = _text(name)
        merged = _merged(name, before, parsed_args)
        for warning in merged.warnings:
            LOG.warning("%s: %s", name, warning)
        backup = None
        if parsed_args.in_place and merged.added:
            backup = _replaced(name, before, merged.text)
        told = f"{name}: {_told(merged, backup)}\n"
        return told if parsed_args.in_place else merged.text, {
            "file": name,
            "added": merged.added,
            "warnings": merged.warnings,
            "backup": backup and str(backup),
            "yaml": merged.text,
        }

    def write(self, text: str) -> None:
        """As bytes: a file does not depend on the terminal's encoding."""
        buffer = getattr(self.app.stdout, "buffer", None)
        if buffer is None:
            super().write(text)
        else:
            self.app.stdout.flush()
            buffer.write(text.encode())
            buffer.flush()


def _merged(name: str, text: str, args: argparse.Namespace) -> Merged:
    for option in ("rate_policy", "gauge_policy"):
        given = getattr(args, option)
        if given is not None and not (given and given.isprintable()):
            raise errors.InputError(
                f"--{option.replace('_', '-')} {given!r}: must be the name "
                "of an archive policy"
            )
    policies = gnocchi_resources.Policies(args.rate_policy, args.gauge_policy)
    try:
        return gnocchi_resources.merge(text, policies)
    except gnocchi_resources.MappingError as error:
        raise errors.InputError(f"{name}:{error.line}: {error}") from error


def _text(name: str) -> str:
    data = options.read_file("FILE", name)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise errors.InputError(
            f"{name}: {error}; save it as UTF-8"
        ) from error


def _replaced(name: str, before: str, text: str) -> pathlib.Path:
    try:
        return replace.replace(name, before.encode(), text.encode())
    except OSError as error:
        raise errors.InputError(f"FILE {name}: {error.strerror}") from error


def _told(merged: Merged, backup: pathlib.Path | None) -> str:
    if backup is None:
        return "all meters are already mapped; nothing written"
    added = number_of(len(merged.added), "meter")
    return f"{added} added; the original is in {backup}"
