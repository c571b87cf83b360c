# SPDX-License-Identifier: Apache-2.0
"""Flavors that get a slice, one for each resource class."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping

from ceilometer_perf.slices.placement.encoding import PLACE, Encoding, Group
from ceilometer_perf.slices.placement.sizes import Size

#: What Nova would ask of the compute node's own inventory otherwise.
ZEROED = ("VCPU", "MEMORY_MB", "DISK_GB")
_PLACE = f"resources:{PLACE}"
#: GiB: ordinary users may not boot flavors without a disk.
DISK = 1


@dataclasses.dataclass(frozen=True)
class Flavor:
    """A flavor by the name of its class, and its extra specs."""

    name: str
    resource_class: str
    size: Size
    disk: int  # GiB
    properties: Mapping[str, str]

    def commands(self) -> Iterator[str]:
        """For a shell: create it, and set its extra specs."""
        vcpus, ram = (
            "" if value is None else f" --{option} {value}"
            for option, value in (
                ("vcpus", self.size.vcpus),
                ("ram", self.size.memory_mib),
            )
        )
        size = f"{vcpus}{ram} --disk {self.disk}"
        yield f"openstack flavor create{size} {self.name}"
        words = (
            f"--property {shlex.quote(f'{key}={value}')}"
            for key, value in self.properties.items()
        )
        yield " \\\n  ".join(["openstack flavor set", *words, self.name])


def asks_for_slice(extra_specs: Mapping[str, str]) -> bool:
    """Whether a flavor is one of these."""
    return _PLACE in extra_specs


def asks_for(
    extra_specs: Mapping[str, str], encoded: Encoding, resource_class: str
) -> bool:
    """Whether a flavor is that of a class."""
    wanted = dict(_requested(encoded.requests[resource_class]))
    return wanted.items() <= extra_specs.items()


def flavors(
    encoded: Encoding, known: Mapping[str, Size], disk: int = DISK
) -> list[Flavor]:
    """In the order of nova.conf; ``disk``: GiB."""
    return [
        Flavor(
            name.removeprefix("CUSTOM_").lower().replace("_", "-"),
            name,
            known.get(name, Size()),
            disk,
            dict(_properties(groups)),
        )
        for name, groups in encoded.requests.items()
    ]


def _properties(groups: tuple[Group, ...]) -> Iterator[tuple[str, str]]:
    for name in ZEROED:
        yield f"resources:{name}", "0"
    yield from _requested(groups)


def _requested(groups: tuple[Group, ...]) -> Iterator[tuple[str, str]]:
    yield _PLACE, "1"
    for number, group in enumerate(groups, start=1):
        for name, units in group.resources.items():
            yield f"resources{number}:{name}", str(units)
        yield f"trait{number}:{group.trait}", "required"
    if len(groups) > 1:
        yield "group_policy", "isolate"
