# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf guest``: what a guest's XML must contain.

Requirements come from the command line; with ``--instance`` they default to
what Nova recorded in the domain's metadata.
"""

import argparse
import difflib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from oslo_log import log

from ceilometer_perf import cpus, guest
from ceilometer_perf.cli import base, errors, options
from ceilometer_perf.cli.values import Value
from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest import (
    domain,
    enabled_events,
    nova_conf,
    nova_metadata,
    xml,
)
from ceilometer_perf.guest.elements import perf
from ceilometer_perf.host import cpu_sets, domains, probe, qemus
from ceilometer_perf.host.probe import machine, virt
from ceilometer_perf.host.realtime import running

LOG = log.getLogger(__name__)

Row = tuple[str, ...]

FINDINGS = 1  # the exit code of check; 0 is clean and 2 is bad input
REFUSED = 1  # the exit code of enable if libvirt refused any event


def _add_inputs(parser: argparse.ArgumentParser, *, vcpus: bool) -> None:
    """The options that define what the guest should be."""
    group = parser.add_argument_group("what the guest should be")
    group.add_argument(
        "--vcpus",
        type=int,
        required=vcpus,
        metavar="N",
        help="vCPUs of the flavor" + ("" if vcpus else " (the domain's)"),
    )
    options.add_nova_conf(
        group,
        "nova.conf of the compute host; without it, nothing is assumed "
        "about that host",
    )
    for source, what in ("flavor", "extra spec"), ("image", "property"):
        group.add_argument(
            f"--{source}",
            nargs="+",
            action="extend",
            default=[],
            metavar="KEY=VALUE",
            help=f"{what} of the {source}; may be repeated",
        )
    group.add_argument(
        "--monitors",
        action="store_true",
        help="also have libvirt monitor the L3 occupancy and the memory "
        "bandwidth of its vCPUs (KVM only)",
    )
    options.add_sys(group)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """``key=value`` words as a mapping."""
    pairs = [word.partition("=") for word in words]
    for word, (key, equals, _) in zip(words, pairs, strict=True):
        if not (key.strip() and equals):
            raise errors.InputError(f"{word!r} must be KEY=VALUE")
    return {key.strip(): value for key, _, value in pairs}


def host_facts(sys_dir: pathlib.Path, uri: str | None) -> guest.HostFacts:
    """What is known about the host; everything if its libvirt can be asked."""
    if not sys_dir.is_dir():
        raise errors.InputError(f"--sys {sys_dir}: no such directory")
    online = sys_dir / "devices/system/cpu/online"
    knows = uri is not None and not _is_anothers(sys_dir, uri)
    return guest.HostFacts(
        libvirt=domains.version(uri),
        intel_cqm=machine.cqm_type(sys_dir) is not None,
        online=cpu_sets.cpu_list(online) if knows else None,
    )


def _is_anothers(sys_dir: pathlib.Path, uri: str) -> bool:
    """Whether this host's sysfs says nothing about that of a libvirt."""
    return sys_dir == options.SYS and virt.is_remote(uri)


def _requirements(
    args: argparse.Namespace,
    vcpus: int,
    noted: nova_metadata.NovaMetadata | None = None,
) -> guest.Requirements:
    """The combined inputs; given ones override recorded ones."""
    if not 0 < vcpus <= cpus.LIMIT:
        raise errors.InputError(f"--vcpus must be 1 to {cpus.LIMIT}")
    flavor = {**((noted and noted.flavor) or {}), **_pairs(args.flavor)}
    image = {**((noted and noted.image) or {}), **_pairs(args.image)}
    return guest.resolve(
        guest.Asked(vcpus, flavor, image),
        None if args.nova_conf is None else nova_conf.read(args.nova_conf),
        host_facts(args.sys, None if noted is None else args.uri),
        monitors=args.monitors,
    )


def _realtime(realtime: guest.Realtime | None) -> dict[str, Any] | None:
    if realtime is None:
        return None
    return {
        "vcpus": sorted(realtime.vcpus),
        "housekeeping": sorted(realtime.housekeeping),
        "priority": realtime.priority,
        "emulator_threads": realtime.emulator_threads,
    }


class Resolve(base.ShowOne):
    """Show what the XML of a guest must contain, by Nova's rules."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The inputs, with the number of vCPUs."""
        parser = super().get_parser(prog_name)
        _add_inputs(parser, vcpus=True)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Value, ...]]:
        """The requirements, under the names that programs read."""
        found = _requirements(parsed_args, parsed_args.vcpus)
        shown = {
            "perf_events": list(found.perf_events),
            "pmu": found.pmu,
            "locked": found.locked,
            "realtime": _realtime(found.realtime),
            "monitors": found.monitors,
        }
        return tuple(shown), tuple(map(Value, shown.values()))


def _add_domain(parser: argparse.ArgumentParser) -> None:
    """The options that select a domain and define what it should be."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--xml",
        type=options.name,
        metavar="FILE",
        help="domain XML; - is standard input",
    )
    which.add_argument(
        "--instance",
        metavar="UUID",
        help="a domain of this host",
    )
    options.add_connect(parser)
    _add_inputs(parser, vcpus=False)


def _domain(
    args: argparse.Namespace,
) -> tuple[str | bytes, guest.Requirements]:
    """The selected domain, and what it must contain."""
    document: str | bytes
    noted = None
    if args.instance is not None:
        uuid = options.instance("--instance", args.instance)
        document = domains.domain_xml(args.uri, uuid)
        noted = nova_metadata.read(document)
        if noted.flavor is None and not args.flavor:
            LOG.warning(
                "The domain's metadata has no extra specs (Nova before "
                "32.0.0 does not write them): pass them with --flavor and "
                "--image"
            )
    else:
        document = options.read_file("--xml", args.xml)
        asked = args.nova_conf is not None or args.flavor
        if not (asked or args.image or args.monitors):
            LOG.warning(
                "Nothing to check this domain against: pass --nova-conf, "
                "--flavor, --image or --monitors"
            )
    count = domain.vcpu_count(xml.parse(document).getroot())
    vcpus = count if args.vcpus is None else args.vcpus
    return document, _requirements(args, vcpus, noted)


class Check(base.Lister):
    """List what is missing or wrong in the XML of a guest.

    Of a realtime guest that runs (--instance), also in its threads, its locked
    memory, and in what shares its CPUs.
    """

    nothing = "no findings"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The domain and the inputs."""
        parser = super().get_parser(prog_name)
        _add_domain(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[Row]]:
        """A row for each finding."""
        document, asked = _domain(parsed_args)
        if not _is_anothers(parsed_args.sys, parsed_args.uri):
            _warn_of_mediated(document, asked, parsed_args.sys)
        found = guest.check(document, asked)
        if parsed_args.instance is not None and asked.realtime:
            found += _running(parsed_args, asked)
        self.code = FINDINGS if found else 0
        rows: list[Row] = [(f.what, f.where, f.why, f.remedy) for f in found]
        return ("what", "where", "why", "remedy"), rows


def _warn_of_mediated(
    document: str | bytes, asked: guest.Requirements, sys_dir: pathlib.Path
) -> None:
    """What keeps this guest, or others, from starting."""
    enabled = perf.enabled(xml.parse(document).getroot())
    hardware = [
        name
        for name in dict.fromkeys((*enabled, *asked.perf_events))
        if name in EVENTS and EVENTS[name].kind == "hardware"
    ]
    if hardware and machine.mediated_pmu(sys_dir):
        LOG.warning("%s: %s", ", ".join(hardware), machine.MEDIATED)


def _running(
    args: argparse.Namespace, requirements: guest.Requirements
) -> list[guest.Finding]:
    """What is wrong with a realtime guest as it runs; nothing if it doesn't.

    The definition is what it boots next.
    """
    uuid = options.instance("--instance", args.instance)
    document = domains.domain_xml(args.uri, uuid, inactive=False)
    root = xml.parse(document).getroot()
    if root.get("id") is None:
        return []
    pid = None if virt.is_remote(args.uri) else qemus.seen(uuid)
    if pid is None:
        LOG.warning(
            "The guest runs, but its QEMU is not among the processes seen "
            "here: only its definition was checked. Run this on its host, "
            "in the host's PID namespace"
        )
        return []
    return list(running.check(running.Running(pid, root, requirements)))


class Apply(base.Text):
    """Print the corrected XML of a guest; change nothing."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The domain and the inputs."""
        parser = super().get_parser(prog_name)
        _add_domain(parser)
        return parser

    def answer(self, parsed_args: argparse.Namespace) -> tuple[str, Any]:
        """The corrected XML."""
        text = guest.apply(*_domain(parsed_args))
        return text, {"xml": text}


class Diff(Apply):
    """Print what apply would change, as a unified diff."""

    def answer(self, parsed_args: argparse.Namespace) -> tuple[str, Any]:
        """The difference, empty if there is none."""
        document, requirements = _domain(parsed_args)
        after = guest.apply(document, requirements)
        if isinstance(document, bytes):
            document = document.decode()
        text = "".join(_diff(document, after))
        return text, {"diff": text}


def _diff(before: str, after: str) -> Iterator[str]:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "before", "after", lineterm=""
    )
    return (f"{line}\n" for line in lines)


class Enable(base.Lister):
    """Enable perf events in a guest's definition, from its next boot."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Events, and the domains that get them."""
        parser = super().get_parser(prog_name)
        parser.add_argument("event", nargs="+", metavar="EVENT")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--instance", metavar="UUID")
        which.add_argument(
            "--all", action="store_true", help="every domain on this host"
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="show what would change, change nothing",
        )
        parser.add_argument(
            "--live",
            action="store_true",
            help="also enable it in the running guest, where it misses the "
            "vCPUs",
        )
        options.add_connect(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[Row]]:
        """A row for each event of each domain."""
        names = list(enabled_events.normalized(parsed_args.event))
        if not names:
            raise errors.InputError("name an event")
        uuid = None
        if not parsed_args.all:
            uuid = options.instance("--instance", parsed_args.instance)
        _warn(parsed_args, names)
        outcomes = domains.enable(
            parsed_args.uri,
            uuid,
            names,
            live=parsed_args.live,
            dry_run=parsed_args.dry_run,
        )
        refused = any(outcome.refused for outcome in outcomes)
        self.code = REFUSED if refused else 0
        done = "would be enabled" if parsed_args.dry_run else "enabled"
        rows: list[Row] = [
            (o.uuid, o.name, o.event, f"refused: {o.refused}")
            if o.refused
            else (o.uuid, o.name, o.event, done)
            for o in outcomes
        ]
        return ("instance", "name", "event", "outcome"), rows


def _warn(args: argparse.Namespace, names: list[str]) -> None:
    """What libvirt accepts silently and an operator would regret."""
    if args.live:
        LOG.warning(
            "Events enabled live count only threads created from now on, "
            "not the running vCPUs: do not bill by them until the guest "
            "has been restarted"
        )
    # Another host's kernel is unknown.
    known = () if virt.is_remote(args.uri) else probe.cannot_work(names)
    for verdict in known:
        LOG.warning(
            "%s does not work on this host (%s): a guest that has it in its "
            "definition will not start",
            verdict.event.name,
            verdict.reason,
        )
