# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf status``: what is published, what is not, and why."""

import argparse
import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from cliff.formatters.commaseparated import CSVLister

from ceilometer_perf.cli import base, looking, options
from ceilometer_perf.cli.table import Table
from ceilometer_perf.cli.values import Value, printable
from ceilometer_perf.counters.verdicts import Judgement, Verdict
from ceilometer_perf.doctor.finding import listed
from ceilometer_perf.doctor.status import (
    Instance,
    Lacks,
    Status,
    Watch,
    host_lacks,
)
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.plural import number_of
from ceilometer_perf.wiring import Parts

WITHHELD = 1  # the exit code if a counter is withheld; 2 is bad input

#: One for each instance, for programs; people get two of them as one.
COLUMNS = ("id", "name", "state", "source", "coverage", "counters", "cache")


class Show(base.ShowOne):
    """Show what is published for each instance, and why the rest isn't."""

    # These write one thing as well, and instances as csv.
    formatter_namespace = "cliff.formatter.list"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The agent's options, and how long to look."""
        parser = super().get_parser(prog_name)
        options.add_agent(parser)
        parser.add_argument(
            "--seconds",
            type=options.seconds,
            default=2.0,
            metavar="S",
            help="seconds until a second reading, to see what changes; 0 "
            "reads once (default: 2)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Value, ...]]:
        """The host and its instances, under the names that programs read."""
        parts = looking.parts(parsed_args)
        lacks = host_lacks(parts.connection.uri)
        watch = Watch(parts, lacks)
        with looking.quiet():
            self.status = watch.look()
            self.host = _host(parts, lacks)
            if parsed_args.seconds:
                time.sleep(parsed_args.seconds)
                self.status = watch.look()
        withheld = any(i.is_withheld for i in self.status.instances)
        short = _is_short_of_rmids(self.host, self.status)
        self.code = WITHHELD if withheld or short else 0
        instances = [_instance(each) for each in self.status.instances]
        return ("host", "instances"), (Value(self.host), Value(instances))

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: base.Names,
        data: Any,
    ) -> int:  # fmt: skip
        """As csv, the instances."""
        if parsed_args.formatter != "csv":
            return super().produce_output(parsed_args, column_names, data)
        rows = map(_row, self.status.instances)
        CSVLister().emit_list(COLUMNS, rows, self.app.stdout, parsed_args)
        return 0

    def show(
        self, parsed_args: argparse.Namespace, column_names: base.Names,
        data: Any,
    ) -> None:  # fmt: skip
        """Write a table of the instances, and what to do below."""
        rows = map(_row, self.status.instances)
        out = self.app.stdout
        out.write(f"{_headline(self.host, self.status)}\n")
        Table("no instances").emit_list(
            ("instance", "state", *COLUMNS[4:]),
            [
                (
                    f"{name}\n{uuid}",
                    state,
                    coverage,
                    _by(by, counters),
                    rdt,
                )
                for uuid, name, state, by, coverage, counters, rdt in rows
            ],
            out,
            parsed_args,
        )
        out.writelines(f"{line}\n" for line in _below(self.status))


def _host(parts: Parts, lacks: Lacks) -> dict[str, Any]:
    hostname, version = parts.connection.call(
        lambda session: (session.conn.getHostname(), session.version_text)
    )
    return {
        "hostname": hostname,
        "uri": parts.connection.uri,
        "libvirt": version,
        **dataclasses.asdict(parts.settings),
        "rmids": _rmids(parts.resctrl),
        "lacks": dict(lacks),
    }


def _rmids(resctrl: Resctrl) -> dict[str, int | None] | None:
    """None if nothing is monitored."""
    if not resctrl.monitors:
        return None
    return {"in_use": resctrl.in_use(), "total": resctrl.rmids()}


def _is_short_of_rmids(host: dict[str, Any], status: Status) -> bool:
    """Whether instances lack monitoring because no RMID is free."""
    rmids = host["rmids"] or {"total": None}
    return (
        rmids["total"] is not None
        and rmids["in_use"] >= rmids["total"]
        and any(
            judgement.verdict is Verdict.HOST_LACKS
            for instance in status.instances
            for judgement in instance.rdt.values()
        )
    )


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "name": instance.name,
        "state": instance.state,
        "realtime": instance.realtime,
        "source": instance.source,
        "coverage": instance.coverage,
        "qemu_seen": instance.qemu_seen,
        "verdicts": {
            name: dataclasses.asdict(judgement)
            for name, judgement in {
                **instance.verdicts,
                **instance.rdt,
            }.items()
        },
    }


def _headline(host: dict[str, Any], status: Status) -> str:
    counters = host["hardware_counters"] or "unknown"
    rmids = host["rmids"]
    monitored = (
        f", RMIDs: {rmids['in_use']} of {rmids['total']} in use"
        if rmids
        else ""
    )
    return printable(
        f"{host['hostname']}: libvirt {host['libvirt']} at {host['uri']}, "
        f"{_counted(status)}, hardware counters: {counters}"
        f"{monitored}"
    )


def _counted(status: Status) -> str:
    return number_of(len(status.instances), "instance")


def _row(instance: Instance) -> tuple[str, ...]:
    return (
        instance.id,
        instance.name,
        f"{instance.state}, realtime" if instance.realtime
        else instance.state,
        instance.source or "-",
        looking.ratio(instance.coverage),
        looking.summary(instance.verdicts),
        looking.summary(instance.rdt),
    )  # fmt: skip


def _by(source: str, counters: str) -> str:
    return f"own: {counters}" if source == "own" else counters


def _below(status: Status) -> Iterator[str]:
    """What to do, each remedy once, then what can't be fixed."""
    remedies: dict[str, dict[Judgement, list[str]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for instance in status.instances:
        for judgement in instance.judgements:
            if judgement.reason:
                name = printable(instance.name)
                remedies[judgement.remedy][judgement].append(name)
    for remedy in sorted(remedies, key=lambda text: not text):
        yield ""
        yield f"To do: {remedy}" if remedy else "Nothing to do:"
        for judgement, names in remedies[remedy].items():
            text = f"{judgement.verdict.value}: {judgement.reason}"
            yield f"  {text} ({listed(names)})"
    foreign = [printable(i.name) for i in status.instances if not i.is_nova]
    if foreign:
        yield ""
        yield f"Not created by Nova, so not published: {listed(foreign)}"
