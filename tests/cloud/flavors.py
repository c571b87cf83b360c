# SPDX-License-Identifier: Apache-2.0
"""What an ordinary user may boot in a cloud."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_CPUS = sorted(map(str, os.sched_getaffinity(0)), key=int)
#: The CPU that hosts share, and the one that they dedicate to realtime vCPUs;
#: empty where there is no second one.
SHARED, DEDICATED = _CPUS[0], "".join(_CPUS[1:2])


@dataclass(frozen=True)
class Flavor:
    """Ordinary users may not boot what has no disk."""

    name: str
    vcpus: int = 1
    ram: int = 64  # MiB
    disk: int = 1  # GiB
    extra_specs: Mapping[str, str] = field(default_factory=dict)

    @property
    def realtime(self) -> bool:
        """Whether it has realtime vCPUs."""
        return "hw:cpu_realtime" in self.extra_specs

    def create(self, admin: Any) -> None:
        """In Nova, by the administrator's connection."""
        made = admin.compute.create_flavor(
            name=self.name, vcpus=self.vcpus, ram=self.ram, disk=self.disk
        )
        if self.extra_specs:
            admin.compute.create_flavor_extra_specs(made, self.extra_specs)


def _realtime(policy: str, **others: str) -> dict[str, str]:
    specs = {"cpu_policy": policy, "cpu_realtime": "yes", **others}
    return {f"hw:{name}": value for name, value in specs.items()}


_REALTIME = (
    Flavor(
        "perf.realtime",
        vcpus=2,
        extra_specs=_realtime("mixed", cpu_realtime_mask="^0"),
    ),
    # The image must have one.
    Flavor("perf.realtime.nomask", vcpus=2, extra_specs=_realtime("mixed")),
    Flavor(
        "perf.realtime.share",
        vcpus=2,
        extra_specs=_realtime(
            "mixed", cpu_realtime_mask="^0", emulator_threads_policy="share"
        ),
    ),
    Flavor(
        "perf.realtime.all",
        extra_specs=_realtime("dedicated", emulator_threads_policy="share"),
    ),
)
# As many as two CPUs, of which one is dedicated, can have.
FLAVORS = (
    Flavor("perf.small"),
    Flavor("perf.large", ram=128),
    Flavor("perf.pmu", extra_specs={"hw:pmu": "true"}),
    *(_REALTIME if DEDICATED else ()),
)
