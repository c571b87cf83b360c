# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf host``: what this host can count, and keep free."""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from ceilometer_perf.cli import base, errors, options, realtime_host
from ceilometer_perf.cli.values import Value
from ceilometer_perf.host import probe
from ceilometer_perf.host.probe import advice, rdt
from ceilometer_perf.host.probe.virt import Virt

Shown = tuple[tuple[str, ...], tuple[Any, ...]]

ANSWERS = {True: "yes", False: "no", None: "?"}


class Events(Value):
    """Verdicts on events, a line each."""

    def human_readable(self) -> str:
        """The event, whether it works, and why not."""
        width = max(len(row["event"]) for row in self._value)
        return "\n".join(
            f"{row['event']:{width}}  {ANSWERS[row['works']]:3}  "
            f"{row['reason'] or ''}".rstrip()
            for row in self._value
        )


class Banks(Value):
    """L3 caches, a line each."""

    def human_readable(self) -> str:
        """Their size, and which CPUs share it."""
        return (
            "\n".join(
                f"{bank['id']}: {bank['size'] / (1 << 20):g} MiB, "
                f"CPUs {bank['cpus']}"
                for bank in self._value
            )
            or super().human_readable()
        )


class Resctrl(Value):
    """The kernel's interface, and how much of it is used."""

    def human_readable(self) -> str:
        """With one line for the RMIDs."""
        found = dict(self._value)
        in_use, rmids = found.pop("in_use"), found["rmids"]
        if rmids is not None:
            found["rmids"] = f"{in_use} of {rmids} in use"
        return Value(found).human_readable()


class Sources(Value):
    """Possible sources of cache and bandwidth, a line each."""

    def human_readable(self) -> str:
        """The source, whether it works, why not, and how to fix that."""
        return "\n".join(line for row in self._value for line in _said(row))


class Probe(base.ShowOne):
    """Show what can be counted on this host, or print it for nova.conf.

    With --realtime, show what realtime guests need of this host instead.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Where libvirt is, and what to print."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--realtime",
            action="store_true",
            help="show every condition that a realtime guest needs of its "
            "host, and how to meet it",
        )
        options.add_nova_conf(
            parser,
            "without a PATH, print the enabled_perf_events that are safe on "
            "this host; with --realtime, nova.conf of this host (default: "
            "what nova-compute was started with)",
            nargs="?",
        )
        parser.add_argument(
            "--root",
            type=options.path,
            metavar="DIR",
            help="with --realtime, the root folder of the host, or of a copy "
            "of its /proc and /sys (default: /)",
        )
        options.add_connect(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        """Everything that was found, or the lines for nova.conf."""
        if parsed_args.realtime:
            answers = realtime_host.examine(parsed_args)
            self.code = realtime_host.code(answers)
            return realtime_host.shown(answers)
        _refuse_paths(parsed_args)
        self.report = probe.ask(parsed_args.uri)
        if parsed_args.nova_conf is not None:
            return _nova_conf(self.report)
        return _all(self.report)

    def show(
        self, parsed_args: argparse.Namespace, column_names: base.Names,
        data: Any,
    ) -> None:  # fmt: skip
        """With --nova-conf or --realtime, lines instead of a table."""
        if parsed_args.realtime:
            chosen, selector = self._generate_columns_and_selector(
                parsed_args, column_names
            )
            if selector:
                data = self._compress_iterable(data, selector)
            for line in realtime_host.lines(chosen, list(data)):
                self.app.stdout.write(f"{line}\n")
        elif parsed_args.nova_conf is not None:
            self.app.stdout.write(advice.nova_conf(self.report))
        else:
            super().show(parsed_args, column_names, data)


def _refuse_paths(args: argparse.Namespace) -> None:
    """Without --realtime, no other host's files are read."""
    if args.nova_conf is not None and args.nova_conf.names:
        raise errors.InputError(
            f"{args.nova_conf}: without --realtime the option takes no "
            "value: it prints lines for nova.conf"
        )
    if args.root is not None:
        raise errors.InputError(f"--root {args.root} needs --realtime")


def _nova_conf(report: probe.Probed) -> Shown:
    return ("enabled_perf_events", "left_out", "notes"), (
        Value(list(report.safe())),
        Value(dict(advice.left_out(report))),
        Value(list(advice.notes(report))),
    )


def _all(report: probe.Probed) -> Shown:
    machine = report.machine
    shown = {
        "kernel": Value(machine.kernel),
        "libvirt": Value(_libvirt(report.virt)),
        "root": Value(report.is_root),
        "perf_event_paranoid": Value(machine.paranoid),
        "pmus": Value(list(machine.pmus)),
        "hardware_counters": Value(report.counters.number),
        "nmi_watchdog": Value(machine.nmi_watchdog),
        "l3": Banks([dataclasses.asdict(bank) for bank in report.virt.l3]),
        "l3_bytes": Value(sum(bank.size for bank in report.virt.l3) or None),
        "resctrl": Resctrl(_resctrl(report)),
        "rdt_sources": Sources([_source(s) for s in report.rdt_sources()]),
        "events": Events([_event(report, v) for v in report.trials]),
        "notes": Value(list(advice.notes(report))),
    }
    return tuple(shown), tuple(shown.values())


def _libvirt(virt: Virt) -> dict[str, Any]:
    return {
        "uri": virt.uri,
        "library": _version(virt.library),
        "daemon": _version(virt.daemon),
        "error": virt.error,
    }


def _version(version: tuple[int, int, int] | None) -> str | None:
    return ".".join(map(str, version)) if version else None


def _resctrl(report: probe.Probed) -> dict[str, Any]:
    resctrl = report.machine.resctrl
    return {
        "kernel": resctrl.known,
        "mounted": resctrl.mounted,
        "features": list(resctrl.features),
        "rmids": resctrl.rmids,
        "in_use": resctrl.in_use,
        "libvirt_monitors": list(report.virt.monitors),
    }


def _source(source: rdt.RdtSource) -> dict[str, Any]:
    return {
        "source": source.name,
        "works": source.works,
        "reason": source.reason,
        "remedy": source.remedy,
    }


def _said(row: dict[str, Any]) -> Iterator[str]:
    """A source in words."""
    answer = f"{row['source']:8} {ANSWERS[row['works']]:3}"
    yield f"{answer}  {row['reason'] or ''}".rstrip()
    if row["remedy"]:
        yield f"{'':{len(answer)}}  ({row['remedy']})"


def _event(report: probe.Probed, verdict: probe.Trial) -> dict[str, Any]:
    reasons = advice.left_out(report)
    return {
        "event": verdict.event.name,
        "kind": verdict.event.kind,
        "works": verdict.works,
        "reason": reasons.get(verdict.event.name),
    }
