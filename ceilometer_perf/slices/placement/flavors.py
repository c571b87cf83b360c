# SPDX-License-Identifier: Apache-2.0
"""Flavors that get a slice, one for each resource class."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping

from ceilometer_perf.slices.placement.encoding import Encoding, Group
from ceilometer_perf.slices.placement.sizes import Size

#: What Nova would ask of the compute node's own inventory otherwise.
ZEROED = ("VCPU", "MEMORY_MB", "DISK_GB")


@dataclasses.dataclass(frozen=True)
class Flavor:
    """A flavor by the name of its class, and its extra specs."""

    name: str
    resource_class: str
    size: Size
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
        yield f"openstack flavor create{vcpus}{ram} --disk 0 {self.name}"
        words = (
            f"--property {shlex.quote(f'{key}={value}')}"
            for key, value in self.properties.items()
        )
        yield " \\\n  ".join(["openstack flavor set", *words, self.name])


def flavors(encoded: Encoding, known: Mapping[str, Size]) -> list[Flavor]:
    """In the order of nova.conf."""
    return [
        Flavor(
            name.removeprefix("CUSTOM_").lower().replace("_", "-"),
            name,
            known.get(name, Size()),
            dict(_properties(groups)),
        )
        for name, groups in encoded.requests.items()
    ]


def _properties(groups: tuple[Group, ...]) -> Iterator[tuple[str, str]]:
    for name in ZEROED:
        yield f"resources:{name}", "0"
    for number, group in enumerate(groups, start=1):
        for name, units in group.resources.items():
            yield f"resources{number}:{name}", str(units)
        yield f"trait{number}:{group.trait}", "required"
    if len(groups) > 1:
        yield "group_policy", "isolate"
