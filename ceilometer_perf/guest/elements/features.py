# SPDX-License-Identifier: Apache-2.0
"""``<features><pmu state='on|off'/></features>``.

Nova writes it from ``get_pmu_constraint``; libvirt takes a ``<pmu/>`` without
a state as on, and no element as the hypervisor's choice.
"""

from collections.abc import Iterator

from ceilometer_perf.guest import domain, xml
from ceilometer_perf.guest.elements.base import REMEDY, Element
from ceilometer_perf.guest.requirements import Requirements

ORDER = (
    "acpi", "apic", "pae", "hap", "viridian", "privnet", "hyperv", "kvm",
    "pvspinlock", "capabilities", "pmu",
)  # fmt: skip


def _wanted(_root: xml.Element, asked: Requirements) -> str | None:
    return None if asked.pmu is None else ("off", "on")[asked.pmu]


def _faults(root: xml.Element, state: str) -> Iterator[str]:
    pmu = root.find("features/pmu")
    if pmu is None:
        yield f"the PMU is left to the hypervisor instead of {state}"
    elif pmu.get("state", "on") != state:
        yield f"the PMU is {pmu.get('state', 'on')} instead of {state}"


def _merge(root: xml.Element, state: str) -> None:
    features = domain.container(root, "features")
    pmu = features.find("pmu")
    if pmu is None:
        pmu = xml.insert(features, "pmu", ORDER)
    pmu.set("state", state)


PMU = Element(
    name="pmu",
    where="/domain/features/pmu",
    why="hw:pmu of the flavor or hw_pmu of the image asks for it",
    remedy=REMEDY,
    wanted=_wanted,
    faults=_faults,
    merge=_merge,
)
