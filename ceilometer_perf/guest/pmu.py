# SPDX-License-Identifier: Apache-2.0
"""The guest's own PMU: ``nova.virt.hardware.get_pmu_constraint``."""

from ceilometer_perf.guest.asked import Asked


def pmu(asked: Asked) -> bool | None:
    """On, off, or None: then no element, and the hypervisor chooses."""
    return asked.agreed_bool("pmu", "FlavorImageConflict")
