# SPDX-License-Identifier: Apache-2.0
"""Flavors that ask for a slice, and get none or too much."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ceilometer_perf.slices.errors import SliceError
from ceilometer_perf.slices.placement.encoding import Encoding
from ceilometer_perf.slices.placement.flavors import (
    asks_for_slice,
    flavors,
)

Flavors = Mapping[str, Mapping[str, str]]
"""Extra specs by the flavor's name."""

#: Extra specs with which Nova asks Placement, by their beginning.
_REQUESTS = ("resources", "trait", "group_policy", "required", "member_of")
_TOPOLOGY = (
    "gives the instance a NUMA topology: NUMATopologyFilter and nova-compute "
    "look for CPUs and pages that slices have; the template says what it gets"
)
_ALIAS = (
    "PciPassthroughFilter looks for a device outside of slices; the template "
    "says which one it gets"
)
#: Why an extra spec does not go with a slice, by its beginning.
_REFUSED = {
    "hw:cpu_policy": _TOPOLOGY,
    "hw:cpu_dedicated_mask": _TOPOLOGY,
    "hw:cpu_thread_policy": _TOPOLOGY,
    "hw:cpu_realtime": _TOPOLOGY,
    "hw:emulator_threads_policy": _TOPOLOGY,
    "hw:numa_": _TOPOLOGY,
    "hw:mem_page_size": _TOPOLOGY,
    "pci_passthrough:": _ALIAS,
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong with a flavor, and with which of its extra specs."""

    flavor: str
    key: str
    what: str


def read(data: bytes, source: str) -> Flavors:
    """What ``openstack flavor list --long -f json`` prints.

    :raises SliceError: it is something else.
    """
    try:
        found = json.loads(data)
        return {each["Name"]: _specs(each["Properties"]) for each in found}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SliceError(
            f"{source} must be what 'openstack flavor list --long -f json' "
            "prints"
        ) from error


def _specs(properties: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in properties.items()}


def check(encoded: Encoding, there: Flavors) -> Iterator[Finding]:
    """Of the flavors that ask for a slice, what is wrong."""
    right = [each.properties for each in flavors(encoded, {})]
    for name, specs in there.items():
        if not asks_for_slice(specs):
            continue
        requests = {
            key: value
            for key, value in specs.items()
            if key.startswith(_REQUESTS)
        }
        if requests not in right:
            yield Finding(
                name, "resources, trait",
                "no slice of this host is asked for like this: it is divided "
                "otherwise, or the flavor was changed; create it again",
            )  # fmt: skip
        for key in specs:
            for beginning, why in _REFUSED.items():
                if key.startswith(beginning):
                    yield Finding(name, key, why)
