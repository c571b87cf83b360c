# SPDX-License-Identifier: Apache-2.0
"""What an ordinary user may boot in a cloud."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Flavor:
    """Ordinary users may not boot what has no disk."""

    name: str
    vcpus: int = 1
    ram: int = 64  # MiB
    disk: int = 1  # GiB
    extra_specs: Mapping[str, str] = field(default_factory=dict)

    def create(self, admin: Any) -> None:
        """In Nova, by the administrator's connection."""
        made = admin.compute.create_flavor(
            name=self.name, vcpus=self.vcpus, ram=self.ram, disk=self.disk
        )
        if self.extra_specs:
            admin.compute.create_flavor_extra_specs(made, self.extra_specs)


REALTIME = {
    "hw:cpu_policy": "mixed",
    "hw:cpu_realtime": "yes",
    "hw:cpu_realtime_mask": "^0",
}
FLAVORS = (
    Flavor("perf.small"),
    Flavor("perf.large", ram=128),
    Flavor("perf.pmu", extra_specs={"hw:pmu": "true"}),
    Flavor("perf.realtime", vcpus=2, extra_specs=REALTIME),
)
