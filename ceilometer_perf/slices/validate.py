# SPDX-License-Identifier: Apache-2.0
"""Whether the templates of a host match the tree of slices."""

from collections.abc import Iterator, Mapping, Sequence

from ceilometer_perf import cpus, guest
from ceilometer_perf.slices import (
    build,
    footprint,
    lacks,
    nova_pci,
    overlap,
)
from ceilometer_perf.slices.breach import Breach
from ceilometer_perf.slices.build import Builder
from ceilometer_perf.slices.context import SAMPLE, Context
from ceilometer_perf.slices.footprint import Footprint
from ceilometer_perf.slices.machine import Machine, whole_devices
from ceilometer_perf.slices.schema import SchemaError
from ceilometer_perf.slices.spec import SliceSpec
from ceilometer_perf.slices.template import Rendered
from ceilometer_perf.slices.tree import Tree


def validate(
    specs: Sequence[SliceSpec],
    builder: Builder,
    machine: Machine | None = None,
    instance: Context = SAMPLE,
) -> list[Breach]:
    """Every breach; of the host only with a machine.

    :raises SliceError: a template can't be rendered at all.
    """
    wanted = builder.requirements(instance)
    done = build.render(specs, instance, wanted)
    found = [*_schema(specs, done, builder, wanted)]
    tree = Tree(specs)
    footprints = {
        spec.name: footprint.of(rendered)
        for spec, rendered in zip(specs, done, strict=True)
    }
    taken = footprints
    if machine is not None:
        taken = {
            name: whole_devices(each, machine)
            for name, each in footprints.items()
        }
    found += overlap.breaches(tree, taken)
    if machine is not None:
        found += lacks.breaches(tree, footprints, machine)
    found += _floating(tree, footprints)
    for name in tree.roots:
        # The rest lies inside of them.
        found += nova_pci.breaches(
            name, footprints[name], builder.conf, machine
        )
    return [*found, *_nova(tree, footprints, builder.conf)]


def _schema(
    specs: Sequence[SliceSpec],
    done: Sequence[Rendered],
    builder: Builder,
    wanted: guest.Requirements,
) -> Iterator[Breach]:
    for spec, rendered in zip(specs, done, strict=True):
        try:
            builder.finish(spec, rendered, wanted)
        except SchemaError as error:
            places = () if error.place is None else (error.place,)
            yield Breach("schema", (spec.name,), str(error), places)


def _floating(
    tree: Tree, footprints: Mapping[str, Footprint]
) -> Iterator[Breach]:
    for name in tree:
        for threads, place in footprints[name].floating.items():
            what = f"{threads} of {name} may run on any CPU: add a pin"
            yield Breach("floating", (name,), what, (place,))


def _nova(
    tree: Tree, footprints: Mapping[str, Footprint], conf: guest.NovaConf
) -> Iterator[Breach]:
    """Of slices that are part of no other: the rest lies inside of them."""
    sets = {
        "cpu_dedicated_set": conf.dedicated_cpus or frozenset(),
        "cpu_shared_set": conf.shared_cpus or frozenset(),
    }
    for name in tree.roots:
        taken = footprints[name].cpus
        for option, numbers in sets.items():
            both = sorted(numbers & taken.keys())
            if both:
                what = (
                    f"CPU {cpus.text(both)} of {name} is in [compute] "
                    f"{option}, so Nova gives it to other instances, too: "
                    "remove it there"
                )
                yield Breach("nova", (name,), what, (taken[both[0]],))
