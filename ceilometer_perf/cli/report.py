# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf report``: the dashboards' panels as one HTML file."""

import argparse
import re
from pathlib import Path

from oslo_config import cfg

from ceilometer_perf.cli import base, errors, options
from ceilometer_perf.doctor import agent, agent_conf
from ceilometer_perf.panels.panel import Dashboard
from ceilometer_perf.panels.table import DASHBOARDS
from ceilometer_perf.report.answers import Answers, write

URL = "http://localhost:9090"
WINDOW = "6h"
INTERVAL = "60s"
SPAN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ASKED = ("prometheus", "gnocchi")
# Which --from each option needs.
GO_WITH = {
    **dict.fromkeys(
        ("url", "window", "save", "host", "instance", "project"), _ASKED
    ),
    **dict.fromkeys(("config_file", "interval", "granularity"), ("gnocchi",)),
    "data": ("file",),
}
# What to check if a database has no data.
NOTHING = {
    "prometheus": "are the rules of ceilometer-perf.rules.yml loaded",
    "gnocchi": "are the meters in gnocchi_resources.yaml",
}
PAGES = {page.name: page for page in DASHBOARDS}
TITLE = "What instances do to their hosts' hardware"


def span(word: str) -> float:
    """A duration such as 30m, in seconds."""
    match = SPAN.fullmatch(word)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{word!r} must be a duration such as 90s, 30m, 6h or 7d"
        )
    return float(int(match[1]) * SECONDS[match[2]])


class Report(base.Command):
    """Write the panels of the dashboards to one HTML file."""

    extra = "report"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Where the data is, what of it, and where the page goes."""
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", type=options.path)
        parser.add_argument(
            "--from",
            dest="origin",
            choices=(*_ASKED, "file"),
            default="prometheus",
            help="source of the data (default: prometheus)",
        )
        parser.add_argument(
            "--url",
            metavar="URL",
            help=f"URL of the database (default: {URL} for Prometheus, the "
            "one in the service catalog for Gnocchi)",
        )
        parser.add_argument(
            "--window",
            type=span,
            metavar="SPAN",
            help="how far to look back, such as 30m, 6h or 7d (default: "
            f"{WINDOW})",
        )
        options.add_config_file(parser)
        parser.add_argument(
            "--interval",
            type=span,
            metavar="SPAN",
            help="with --from gnocchi: the polling interval, to turn "
            "growth into a rate (default: that of this host's polling.yaml, "
            f"or {INTERVAL})",
        )
        parser.add_argument(
            "--granularity",
            type=span,
            metavar="SPAN",
            help="with --from gnocchi: one of the archive policy's "
            "(default: the best for the window)",
        )
        parser.add_argument(
            "--data",
            type=options.path,
            metavar="JSON",
            help="with --from file: the file that --save wrote",
        )
        parser.add_argument(
            "--save",
            type=options.path,
            metavar="JSON",
            help="also save the data, for --from file",
        )
        parser.add_argument(
            "--host",
            metavar="NAME",
            help="only this host (its label `instance` in Prometheus)",
        )
        parser.add_argument(
            "--instance",
            metavar="ID",
            help="only this OpenStack instance",
        )
        parser.add_argument(
            "--project", metavar="ID", help="only this project"
        )
        parser.add_argument(
            "--page",
            action="append",
            choices=tuple(PAGES),
            help="only this dashboard; may be repeated",
        )
        parser.add_argument(
            "--note",
            default="",
            metavar="TEXT",
            help="a line for the head of the page",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Get the data, draw it, write it."""
        _check(parsed_args)
        from ceilometer_perf.report import charts, page

        shown = [PAGES[n] for n in PAGES if n in (parsed_args.page or PAGES)]
        answers = _answers(parsed_args, shown)
        pages = charts.pages(shown, answers)
        drawn = [chart for each in pages for chart in each.charts]
        empty = [c.panel.title for c in drawn if not c.lines]
        if len(empty) == len(drawn):
            raise errors.InputError(
                f"{answers.source} has no data for any panel: "
                f"{NOTHING[answers.database]}, and are --host, --instance "
                "and --project right?"
            )
        text = page.html(
            pages,
            title=TITLE,
            note=parsed_args.note,
            source=answers.source,
            span=(answers.start, answers.end),
        )
        write(parsed_args.file, text)
        if parsed_args.save:
            answers.save(parsed_args.save)
        self.app.stdout.write(_summary(parsed_args.file, len(drawn), empty))


def _check(args: argparse.Namespace) -> None:
    """InputError for options that exclude each other."""
    for path in filter(None, (args.file, args.save)):
        if str(path) == "-":
            raise errors.InputError(
                "-: a report must be a file, such as report.html"
            )
    if args.save and args.save.resolve() == args.file.resolve():
        raise errors.InputError(
            f"--save {args.save}: this is the report itself; name another file"
        )
    if args.origin == "file" and args.data is None:
        raise errors.InputError("--from file needs --data FILE")
    for name, origins in GO_WITH.items():
        if getattr(args, name) and args.origin not in origins:
            raise errors.InputError(
                f"--{name.replace('_', '-')} needs --from "
                f"{' or '.join(origins)}"
            )


def _chosen(args: argparse.Namespace) -> dict[str, str]:
    values = {
        "host": args.host,
        "vm": args.instance and options.instance("--instance", args.instance),
        "project": args.project,
    }
    return {name: value for name, value in values.items() if value}


def _answers(args: argparse.Namespace, shown: list[Dashboard]) -> Answers:
    if args.origin == "file":
        return Answers.load(args.data)
    window = args.window or span(WINDOW)
    if args.origin == "gnocchi":
        from ceilometer_perf.report import gnocchi

        conf = agent_conf.read(args.config_file)
        return gnocchi.ask(
            gnocchi.connect(conf, args.url),
            shown,
            _chosen(args),
            window=window,
            interval=args.interval or _interval(conf),
            granularity=args.granularity,
        )
    from ceilometer_perf.report import prometheus

    return prometheus.ask(
        URL if args.url is None else args.url, window, shown, _chosen(args)
    )


def _interval(conf: cfg.ConfigOpts) -> float:
    """That of the agents, as far as this host tells."""
    found = agent.intervals(conf)
    if len(found) > 1:
        told = ", ".join(f"{seconds} s" for seconds in sorted(found))
        raise errors.InputError(
            f"polling.yaml has counters polled every {told}: give the "
            "--interval of those that the report is to be right for"
        )
    return float(found.pop()) if found else span(INTERVAL)


def _summary(path: Path, panels: int, empty: list[str]) -> str:
    none = f", {len(empty)} without data: {', '.join(empty)}" if empty else ""
    return f"{path}: {panels} panels{none}\n"
