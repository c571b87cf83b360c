# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf slice``: templates of parts of a host, and their tree."""

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_log import log

from ceilometer_perf import guest
from ceilometer_perf.cli import base, errors, options
from ceilometer_perf.cli.guest import host_facts
from ceilometer_perf.cli.values import Value
from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host import slices as host
from ceilometer_perf.slices import (
    context,
    drawing,
    generate,
    machine,
    spec,
    split,
)
from ceilometer_perf.slices import schema as libvirt_schema
from ceilometer_perf.slices.breach import ERROR, Breach
from ceilometer_perf.slices.build import Builder
from ceilometer_perf.slices.context import Context
from ceilometer_perf.slices.footprint import size
from ceilometer_perf.slices.machine import Machine
from ceilometer_perf.slices.split import Plan
from ceilometer_perf.slices.tree import Tree as SliceTree
from ceilometer_perf.slices.validate import validate

LOG = log.getLogger(__name__)

FINDINGS = 1  # the exit code of validate; 0 is clean and 2 is bad input

Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def add_nova_conf(parser: argparse.ArgumentParser) -> None:
    """Where the slices are."""
    options.add_nova_conf(
        parser,
        "nova.conf of the compute host, with its [libvirt] slice_spec",
        required=True,
    )


def read_specs(where: NovaFiles) -> tuple[spec.SliceSpec, ...]:
    """The slices of a nova.conf; warn if there are none."""
    found = spec.read(where)
    if not found:
        LOG.warning("%s: no [libvirt] slice_spec", where)
    return found


def _add_schemas(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--schemas",
        default=libvirt_schema.FOLDER,
        type=options.name,
        metavar="DIR",
        help=f"folder of libvirt's schemas (default: {libvirt_schema.FOLDER})",
    )


def _add_machine(
    parser: argparse.ArgumentParser, *, required: bool = False
) -> None:
    """Where the host's hardware is described."""
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument(
        "--capabilities",
        type=options.name,
        metavar="FILE",
        help="output of virsh capabilities on the compute host",
    )
    which.add_argument(
        "--connect",
        "--uri",
        dest="uri",
        metavar="URI",
        help="read them from the libvirt of the compute host instead",
    )
    parser.add_argument(
        "--devices",
        type=options.name,
        metavar="PATH",
        help="with --capabilities: output of virsh nodedev-dumpxml for its "
        "devices, a file or a folder of files",
    )


def _machine(args: argparse.Namespace) -> Machine | None:
    """The host that was named; None if none was."""
    if args.devices is not None and args.capabilities is None:
        raise errors.InputError("--devices needs --capabilities")
    if args.uri is not None:
        found = host.hardware(args.uri)
        devices = (
            None
            if found.devices is None
            else [(args.uri, device) for device in found.devices]
        )
        return machine.read(found.capabilities, devices, args.uri)
    if args.capabilities is None:
        return None
    option = "--capabilities"
    return machine.read(
        options.read_file(option, args.capabilities),
        None if args.devices is None else [*_devices(args.devices)],
        f"{option} {args.capabilities}",
    )


def _devices(name: str) -> Iterator[tuple[str, bytes]]:
    """Each document with its source."""
    path = pathlib.Path(name)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        data = options.read_file("--devices", str(file))
        yield f"--devices {file}", data


def _instance(name: str | None) -> Context:
    if name is None:
        return context.SAMPLE
    option = "--instance-json"
    return context.parse(options.read_file(option, name), f"{option} {name}")


class Tree(base.Lister):
    """List the slices of a host as a tree."""

    extra = "slices"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The configuration, and where to see what is taken."""
        parser = super().get_parser(prog_name)
        add_nova_conf(parser)
        parser.add_argument(
            "--connect",
            "--uri",
            dest="uri",
            metavar="URI",
            help="libvirt URI of the compute host: show which slices are "
            "taken",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """A row for each slice, below the one that it is a part of."""
        tree = SliceTree(read_specs(parsed_args.nova_conf))
        columns: tuple[str, ...] = ("slice", "parent", "resource_class")
        rows: list[tuple[Any, ...]] = [
            (
                Drawn((branch, name)),
                tree.parent(name) or "",
                tree.specs[name].resource_class,
            )
            for branch, name in drawing.draw(tree)
        ]
        if parsed_args.uri is None:
            return columns, rows
        taken = host.taken(parsed_args.uri)
        states = _states(tree, taken)
        rows = [
            (*row, states[name], Value(list(taken.get(name, ()))))
            for row, name in zip(rows, tree, strict=True)
        ]
        return (*columns, "state", "domains"), rows


class Drawn(Value):
    """A slice's name, which people see as a branch of a tree."""

    def human_readable(self) -> str:
        """The branch and the name."""
        return "".join(self._value)

    def machine_readable(self) -> str:
        """The name alone."""
        return str(self._value[1])


def _states(
    tree: SliceTree, taken: Mapping[str, tuple[str, ...]]
) -> dict[str, str]:
    """``taken``, ``blocked`` by one that is, or ``free``."""
    known = [name for name in taken if name in tree.specs]
    blocked = {other for name in known for other in tree.conflicts(name)}
    _warn(taken, known, blocked)
    states = dict.fromkeys(tree, "free") | dict.fromkeys(blocked, "blocked")
    return states | dict.fromkeys(known, "taken")


def _warn(
    taken: Mapping[str, tuple[str, ...]], known: list[str], blocked: set[str]
) -> None:
    """What must never happen."""
    for name, domains in taken.items():
        who = ", ".join(domains)
        if name not in known:
            LOG.warning(
                "%s has the slice %s, which is not in nova.conf",
                who,
                name,
            )
        elif name in blocked:
            LOG.warning(
                "%s has the slice %s, and another domain one that overlaps "
                "with it: they must not run at the same time",
                who,
                name,
            )
        elif len(domains) > 1:
            LOG.warning(
                "%s have the slice %s, which holds one instance: they must "
                "not run at the same time",
                who,
                name,
            )


class Validate(base.Lister):
    """List conflicts between slices, and between slices and their host."""

    extra = "slices"
    nothing = "no findings"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The configuration, the host, and the instance to render for."""
        parser = super().get_parser(prog_name)
        add_nova_conf(parser)
        _add_machine(parser)
        _add_schemas(parser)
        parser.add_argument(
            "--instance-json",
            type=options.name,
            metavar="FILE",
            help="the instance to render templates for (default: a sample)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """A row for each breach of a rule."""
        found = validate(
            read_specs(parsed_args.nova_conf),
            Builder(
                libvirt_schema.Schema(parsed_args.schemas),
                nova_conf.read(parsed_args.nova_conf),
            ),
            _machine(parsed_args),
            _instance(parsed_args.instance_json),
        )
        bad = any(breach.level == ERROR for breach in found)
        self.code = FINDINGS if bad else 0
        columns = ("level", "rule", "slices", "what", "lines")
        return columns, [_row(breach) for breach in found]


def _row(breach: Breach) -> tuple[Any, ...]:
    return (
        breach.level,
        breach.rule,
        Value(list(breach.slices)),
        breach.what,
        Lines([dataclasses.asdict(place) for place in breach.places]),
    )


class Lines(Value):
    """Lines of templates."""

    def human_readable(self) -> str:
        """One below the other, each with its file's name."""
        return "\n".join(
            f"{pathlib.Path(line['file']).name}:{line['line']} {line['text']}"
            for line in self._value
        )


class Render(base.Text):
    """Print the XML that an instance in a slice would boot."""

    extra = "slices"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The slice and the instance."""
        parser = super().get_parser(prog_name)
        add_nova_conf(parser)
        parser.add_argument("--slice", required=True, metavar="NAME")
        parser.add_argument(
            "--instance-json",
            required=True,
            type=options.name,
            metavar="FILE",
            help="the instance; - is standard input",
        )
        _add_schemas(parser)
        options.add_sys(parser)
        return parser

    def answer(self, parsed_args: argparse.Namespace) -> tuple[str, Any]:
        """The XML."""
        specs = {s.name: s for s in read_specs(parsed_args.nova_conf)}
        chosen = specs.get(parsed_args.slice)
        if chosen is None:
            raise errors.InputError(
                f"--slice {parsed_args.slice}: no entry of slice_spec in "
                f"{parsed_args.nova_conf} has this name"
            )
        builder = Builder(
            libvirt_schema.Schema(parsed_args.schemas),
            nova_conf.read(parsed_args.nova_conf),
            host_facts(parsed_args.sys, None),
        )
        text = builder.build(chosen, _instance(parsed_args.instance_json))
        return text, {"xml": text}


class Generate(base.Lister):
    """Write templates and slice_spec that divide a host into equal parts."""

    extra = "slices"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The host, how to divide it, and where to write."""
        parser = super().get_parser(prog_name)
        _add_machine(parser, required=True)
        parser.add_argument(
            "--split",
            required=True,
            metavar="PARTS",
            help="the parts, such as 1/1,1/2,1/8",
        )
        parser.add_argument(
            "--accelerator",
            action="append",
            default=[],
            type=_model,
            metavar="VENDOR:PRODUCT",
            help="PCI devices to divide among the parts, such as "
            "10de:2330; may be repeated",
        )
        parser.add_argument(
            "--reserved-cores",
            type=_count,
            default=Plan.reserved_cores,
            metavar="N",
            help="cores of each NUMA node kept for the host (default: "
            f"{Plan.reserved_cores})",
        )
        parser.add_argument(
            "--page-size",
            type=options.page_size,
            metavar="SIZE",
            help="page size of the guests' memory, such as 4K, 2M or 1G "
            "(default: the largest that every NUMA node has)",
        )
        parser.add_argument(
            "--reserved-memory",
            type=options.kibibytes,
            default=Plan.reserved_memory,
            metavar="SIZE",
            help="memory of each NUMA node kept for the host if pages are "
            "small (default: 8G)",
        )
        parser.add_argument(
            "--output",
            required=True,
            type=options.path,
            metavar="DIR",
            help="folder to create, with templates and lines for nova.conf",
        )
        _add_schemas(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """A row for each slice that was written."""
        found = _machine(parsed_args)
        assert found is not None  # noqa: S101 - the parser sees to it
        plan = Plan(
            parts=split.parse(parsed_args.split),
            accelerators=tuple(dict.fromkeys(parsed_args.accelerator)),
            reserved_cores=parsed_args.reserved_cores,
            page=parsed_args.page_size,
            reserved_memory=parsed_args.reserved_memory,
        )
        builder = Builder(
            libvirt_schema.Schema(parsed_args.schemas), guest.NovaConf()
        )
        for line in split.left_out(found):
            LOG.warning("%s", line)
        folder = parsed_args.output.absolute()
        proposals = generate.propose(found, plan, folder)
        generate.write(proposals, folder, builder, found)
        page = split.page_size(found, plan)
        columns = ("slice", "parent", "nodes", "cpus", "memory", "devices")
        return columns, [_proposal(each, page) for each in proposals]


def _proposal(proposal: generate.Proposal, page: int) -> tuple[Any, ...]:
    shares = proposal.part.shares
    threads = [cpu for s in shares for core in s.cores for cpu in core]
    return (
        proposal.spec.name,
        proposal.spec.conflict_parent or "",
        Value([share.node for share in shares]),
        Value(sorted(threads)),
        size(sum(share.pages for share in shares) * page),
        Value([device.key for share in shares for device in share.devices]),
    )


def _model(word: str) -> str:
    """``vendor:product``, four hexadecimal digits each."""
    if not re.fullmatch("[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", word):
        raise ValueError(word)
    return word.lower()


def _count(word: str) -> int:
    """How many of something."""
    value = int(word)
    if not 0 <= value <= MOST_CORES:
        raise ValueError(word)
    return value


MOST_CORES = 8191
