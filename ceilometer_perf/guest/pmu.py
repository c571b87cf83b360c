# SPDX-License-Identifier: Apache-2.0
"""The guest's own PMU: ``nova.virt.hardware.get_pmu_constraint``."""

from ceilometer_perf.guest import errors
from ceilometer_perf.guest.asked import Asked


def pmu(asked: Asked) -> bool | None:
    """On, off, or None: then no element, and the hypervisor chooses."""
    flavor = asked.flavor_bool("hw:pmu")
    image = asked.image_bool("hw_pmu")
    if flavor is not None and image is not None and flavor != image:
        raise errors.NovaRefusal(
            "FlavorImageConflict",
            f"The flavor's hw:pmu is {str(flavor).lower()}, the image's "
            f"hw_pmu is {str(image).lower()}: make them agree or unset one",
        )
    return image if flavor is None else flavor
