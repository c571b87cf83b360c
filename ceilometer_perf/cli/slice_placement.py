# SPDX-License-Identifier: Apache-2.0
"""``ceilometer-perf slice``: slices in Placement."""

import argparse
import dataclasses
import functools
from typing import Any

from cliff.columns import FormattableColumn
from oslo_log import log

from ceilometer_perf.cli import base, options
from ceilometer_perf.cli.slices import FINDINGS, add_nova_conf, read_specs
from ceilometer_perf.cli.values import Value, printable
from ceilometer_perf.guest import compute_driver
from ceilometer_perf.host import slices as host
from ceilometer_perf.slices.placement import (
    client,
    encoding,
    flavor_check,
    providers,
    records,
)
from ceilometer_perf.slices.placement.choice import Chooser
from ceilometer_perf.slices.placement.encoding import Encoding
from ceilometer_perf.slices.placement.flavors import DISK, flavors
from ceilometer_perf.slices.placement.sizes import sizes
from ceilometer_perf.slices.placement.sync import Provider, State, Synced, sync
from ceilometer_perf.slices.tree import Tree

LOG = log.getLogger(__name__)


def _add_node(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--node",
        metavar="NAME",
        help="compute node, as in `openstack hypervisor list` (default: "
        "[DEFAULT] host of nova.conf)",
    )


def _node(args: argparse.Namespace) -> str:
    return args.node or client.host(args.nova_conf)


def _tree(args: argparse.Namespace) -> Tree:
    return Tree(read_specs(args.nova_conf))


def _warn_of_driver(args: argparse.Namespace, tree: Tree) -> None:
    if not tree:
        return
    lack = compute_driver.lack(args.nova_conf, encoding.PLACE)
    if lack is not None:
        LOG.warning("%s", lack)


class _Providers(FormattableColumn[Any]):
    """A list for programs, a line for each provider for people."""

    def human_readable(self) -> str:
        return "\n".join(map(_told, self._value)) or "-"

    def machine_readable(self) -> list[dict[str, Any]]:
        return [
            {
                "name": each.name,
                "uuid": each.uuid,
                "state": each.state.value,
                "inventories": each.inventories,
                "consumers": list(each.consumers),
            }
            for each in self._value
        ]


def _told(provider: Provider) -> str:
    units = ", ".join(
        f"{inventory['total']} {name}"
        for name, inventory in provider.inventories.items()
    )
    lines = [f"{provider.name}: {units}", *_WHY[provider.state]]
    lines += [f"    {consumer}" for consumer in provider.consumers]
    return "\n".join(lines)


_WHY = {
    State.OPEN: (),
    State.KEPT: (
        "  kept, fully reserved: differs from nova.conf, but is used by",
    ),
    State.WAITING: (
        "  waiting, fully reserved: may overlap with what is kept",
    ),
}


class _Writes(FormattableColumn[Any]):
    """A list for programs, a line for each write for people."""

    def human_readable(self) -> str:
        return "\n".join(each.what for each in self._value) or "-"

    def machine_readable(self) -> list[dict[str, Any]]:
        return [
            {"method": each.method, "path": each.path, "what": each.what}
            for each in self._value
        ]


class Sync(base.ShowOne):
    """Register the slices of a host in Placement; write only changes."""

    extra = "slices"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The host, and whether to write."""
        parser = super().get_parser(prog_name)
        add_nova_conf(parser)
        _add_node(parser)
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="show what would change, change nothing",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[FormattableColumn[Any], ...]]:
        """The providers, and the requests that changed them."""
        done = self._sync(parsed_args)
        columns = (_Providers(done.providers), _Writes(done.writes))
        return ("providers", "writes"), columns

    @staticmethod
    def _sync(args: argparse.Namespace) -> Synced:
        tree = _tree(args)
        encoded = encoding.encode(tree)
        done = sync(
            client.connect(args.nova_conf),
            _node(args),
            encoded,
            dry_run=args.dry_run,
        )
        _warn_of_driver(args, tree)
        return done


class Flavors(base.Text):
    """Print the commands that create flavors for the slices, or check some."""

    extra = "slices"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The host, and what users are to see of a disk."""
        parser = super().get_parser(prog_name)
        add_nova_conf(parser)
        parser.add_argument(
            "--disk",
            type=_gib,
            default=DISK,
            metavar="GIB",
            help="disk of the flavors, at least that of the largest image; "
            f"only administrators may boot from an image with 0 (default: "
            f"{DISK})",
        )
        parser.add_argument(
            "--check",
            type=options.name,
            metavar="FILE",
            help="say instead what is wrong with flavors that are there, as "
            "printed by `openstack flavor list --long -f json`; - is standard "
            "input; exit code 1 if something is",
        )
        return parser

    def answer(self, parsed_args: argparse.Namespace) -> tuple[str, Any]:
        """The commands; for programs, what is in them."""
        tree = _tree(parsed_args)
        encoded = encoding.encode(tree)
        if parsed_args.check is not None:
            return self._checked(encoded, parsed_args.check)
        known = sizes(tree.specs.values())
        found = flavors(encoded, known, parsed_args.disk)
        _warn_of_driver(parsed_args, tree)
        lines = (f"{line}\n" for each in found for line in each.commands())
        return "".join(lines), [
            {
                "name": each.name,
                "vcpus": each.size.vcpus,
                "ram": each.size.memory_mib,
                "disk": each.disk,
                "properties": each.properties,
            }
            for each in found
        ]

    def _checked(self, encoded: Encoding, file: str) -> tuple[str, Any]:
        data = options.read_file("--check", file)
        found = list(
            flavor_check.check(
                encoded, flavor_check.read(data, f"--check {file}")
            )
        )
        self.code = FINDINGS if found else 0
        lines = (
            printable(f"{each.flavor}: {each.key}: {each.what}") + "\n"
            for each in found
        )
        return "".join(lines) or "no findings\n", [
            dataclasses.asdict(each) for each in found
        ]


def _gib(word: str) -> int:
    """A number of GiB, as Nova takes it."""
    value = int(word)
    if not 0 <= value <= MOST_GIB:
        raise ValueError(word)
    return value


MOST_GIB = (1 << 31) - 1  # Nova's limit


class Choose(base.ShowOne):
    """Show the slice that Placement allocated to an instance."""

    extra = "slices"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The instance and the host."""
        parser = super().get_parser(prog_name)
        add_nova_conf(parser)
        _add_node(parser)
        parser.add_argument(
            "--consumer",
            required=True,
            metavar="UUID",
            help="UUID of the instance, the consumer in Placement",
        )
        options.add_connect(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Value, ...]]:
        """The slice and its class."""
        consumer = options.instance("--consumer", parsed_args.consumer)
        tree = _tree(parsed_args)
        asked = client.connect(parsed_args.nova_conf)
        encoded = encoding.encode(tree)
        node = providers.find_node(asked, _node(parsed_args))
        folder = records.folder(parsed_args.nova_conf)
        ask = functools.partial(providers.allocations, asked)
        with records.locked(folder, node.uuid) as noted:
            chosen = Chooser(ask, node, tree, encoded).choose(
                consumer,
                lambda: host.taken(parsed_args.uri),
                noted,
            )
        shown = {
            "slice": chosen,
            "resource_class": tree.specs[chosen].resource_class,
            "consumer": consumer,
        }
        return tuple(shown), tuple(map(Value, shown.values()))
