# SPDX-License-Identifier: Apache-2.0
"""What is wrong between slices, or between one and its host."""

import dataclasses

from ceilometer_perf.slices.template import Place

ERROR, WARNING = "error", "warning"

#: Each rule, and how bad it is to break it.
RULES = {
    "schema": ERROR,  # libvirt would not take the domain
    "outside": ERROR,  # a slice takes what its parent hasn't
    "overlap": ERROR,  # two take the same and neither is part of the other
    "missing": ERROR,  # the host has no such thing, or not so much
    "far": WARNING,  # a device or memory is behind another node than the CPUs
    "floating": WARNING,  # threads or memory without a binding
    "pci": ERROR,  # Nova hands the same devices to other instances
    "nova": WARNING,  # Nova places other instances on the same CPUs
    "unchecked": WARNING,  # the host's devices are unknown
}


@dataclasses.dataclass(frozen=True)
class Breach:
    """A broken rule, the slices that break it, and the conflicting lines."""

    rule: str
    slices: tuple[str, ...]
    what: str
    places: tuple[Place, ...]

    @property
    def level(self) -> str:
        """``error`` or ``warning``."""
        return RULES[self.rule]
