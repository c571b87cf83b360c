# SPDX-License-Identifier: Apache-2.0
"""What a tenant asked for: a flavor's extra specs, an image's properties.

Extra specs reach Nova's ``virt.hardware`` as the text they are. Image
properties pass ``nova.objects.ImageMetaProps`` first, which knows their types
and refuses values outside an enumeration before anything else is looked at.
"""

import dataclasses
from collections.abc import Mapping

from oslo_utils import strutils

from ceilometer_perf.guest import errors

CPU_POLICIES = ("shared", "mixed", "dedicated")  # each claims more
BOOLEANS = (
    "hw:pmu",
    "hw:cpu_realtime",
    "hw:locked_memory",
    "hw_pmu",
    "hw_locked_memory",
)


@dataclasses.dataclass(frozen=True)
class Asked:
    """A flavor and an image, as far as they concern a guest's XML."""

    vcpus: int
    flavor: Mapping[str, str] = dataclasses.field(default_factory=dict)
    image: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def flavor_bool(self, key: str) -> bool | None:
        """A boolean extra spec, None if unset."""
        return _boolean(self.flavor.get(key))

    def agreed_bool(self, key: str, conflict: errors.NovaClass) -> bool | None:
        """A boolean that either may set, None if neither does."""
        flavor = self.flavor_bool(f"hw:{key}")
        image = _boolean(self.image.get(f"hw_{key}"))
        if flavor is not None and image is not None and flavor != image:
            raise errors.NovaRefusal(
                conflict,
                f"The flavor's hw:{key} is {str(flavor).lower()}, the image's "
                f"hw_{key} is {str(image).lower()}: make them agree or unset "
                "one",
            )
        return image if flavor is None else flavor

    def check_image(self) -> None:
        """Refuse what ``ImageMetaProps.from_dict`` refuses."""
        policy = self.image.get("hw_cpu_policy")
        if policy is not None and policy not in CPU_POLICIES:
            raise errors.NovaRefusal(
                "InvalidRequest",
                f"Image property hw_cpu_policy={policy} must be one of "
                f"{', '.join(CPU_POLICIES)}: change or remove it",
            )

    def notes(self) -> tuple[str, ...]:
        """What Nova reads differently from what its author may have meant."""
        given = {**self.flavor, **self.image}
        notes = [
            f"{key}={given[key]} is not a boolean: Nova reads it as false"
            for key in BOOLEANS
            if key in given and not strutils.is_valid_boolstr(given[key])
        ]
        if "hw_emulator_threads_policy" in self.image:
            notes.append(
                "Nova has no image property hw_emulator_threads_policy and "
                "ignores it: set hw:emulator_threads_policy in the flavor"
            )
        return tuple(notes)


def _boolean(value: str | None) -> bool | None:
    """As Nova does: whatever is not plainly true is false."""
    return None if value is None else strutils.bool_from_string(value)
