# SPDX-License-Identifier: Apache-2.0
"""The slices of this host, as nova-compute was started with them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices import spec
from ceilometer_perf.slices.placement import choice, records
from ceilometer_perf.slices.placement.choice import Allocations, Chooser, Taken
from ceilometer_perf.slices.placement.encoding import Encoding, encode
from ceilometer_perf.slices.placement.errors import ChoiceError
from ceilometer_perf.slices.placement.flavors import asks_for
from ceilometer_perf.slices.placement.providers import Node
from ceilometer_perf.slices.spec import SliceSpec
from ceilometer_perf.slices.tree import Tree


@dataclasses.dataclass(frozen=True)
class HostSlices:
    """None where nova.conf has none."""

    tree: Tree
    encoded: Encoding
    #: Of the records.
    folder: Path

    @classmethod
    def configured(cls, conf: Any) -> Self:
        """Those of the files that ``conf`` was read from.

        :raises SliceError: an entry can't be used.
        :raises GuestError: a file can't be read.
        """
        names = (*(conf.config_file or ()), *(conf.config_dir or ()))
        tree = Tree(spec.read(NovaFiles(tuple(map(Path, names)))))
        folder = Path(conf.state_path) / records.FOLDER
        return cls(tree, encode(tree), folder)

    def choose(
        self,
        node: Node,
        consumer: str,
        allocations: Allocations,
        held: Callable[[], Taken],
    ) -> SliceSpec:
        """The slice of an instance, which is recorded.

        ``held``: by all domains, also by those that don't run: they start
        again with what they have.

        :raises ChoiceError: there is none that could be named.
        """
        if not self.tree:
            raise ChoiceError(
                f"{consumer} has a flavor for a slice, and nova.conf of "
                f"{node.name} has no [libvirt] {spec.OPTION}: add it, or "
                "migrate the instance"
            )
        chooser = Chooser(allocations, node, self.tree, self.encoded)
        with records.locked(self.folder, node.uuid) as noted:
            return self.tree.specs[chooser.choose(consumer, held, noted)]

    def kept(
        self,
        node: Node,
        consumer: str,
        extra_specs: Mapping[str, str],
        held: Callable[[], Taken],
    ) -> SliceSpec | None:
        """The slice that an instance has, if its flavor still asks for it.

        Without Placement: when the host boots, that may not be there yet.

        :raises ChoiceError: the records can't be read.
        """
        taken = held()
        with records.locked(self.folder, node.uuid) as noted:
            name = choice.kept(self.tree, consumer, taken, noted.read())
        spec = self.tree.specs[name] if name is not None else None
        if spec is None or not asks_for(
            extra_specs, self.encoded, spec.resource_class
        ):
            return None
        return spec

    def keep(self, node: Node, consumer: str, name: str) -> None:
        """Record the slice of a domain that is about to go.

        Where its instance keeps the allocation, it gets the slice again.
        """
        with records.locked(self.folder, node.uuid) as noted:
            noted.write({**noted.read(), consumer: name})

    def forget(self, node: Node, consumer: str) -> None:
        """Remove the record of an instance that did not start."""
        with records.locked(self.folder, node.uuid) as noted:
            kept = {**noted.read()}
            if kept.pop(consumer, None) is not None:
                noted.write(kept)
