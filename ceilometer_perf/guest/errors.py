# SPDX-License-Identifier: Apache-2.0
"""What the companion refuses, and whether Nova would."""

from typing import Literal

NovaClass = Literal[
    "Invalid",
    "InvalidRequest",
    "InvalidConfiguration",
    "FlavorImageConflict",
    "FlavorImageLockedMemoryConflict",
    "LockMemoryForbidden",
    "MemoryPageSizeInvalid",
    "MemoryPageSizeForbidden",
    "InvalidCPUAllocationPolicy",
    "ImageCPUPinningForbidden",
    "InvalidMixedInstanceDedicatedMask",
    "RequiredMixedInstancePolicy",
    "RequiredMixedOrRealtimeCPUMask",
    "RealtimeConfigurationInvalid",
    "RealtimeMaskNotFoundOrInvalid",
    "InvalidEmulatorThreadsPolicy",
    "BadRequirementEmulatorThreadsPolicy",
]
"""Names of exceptions in ``nova.exception``, which documents them."""


class GuestError(Exception):
    """Anything wrong with what was asked for, or with the domain."""


class NovaRefusal(GuestError):  # noqa: N818
    """What Nova refuses too, under the name that Nova gives it."""

    def __init__(self, nova_class: NovaClass, text: str) -> None:
        """``nova_class``: a program may compare it with Nova's."""
        super().__init__(text)
        self.nova_class = nova_class


class DomainXMLError(GuestError):
    """The text is not domain XML that libvirt accepts."""


class NotInXMLError(GuestError):
    """The XML lacks a choice that is Nova's to make, such as a pin."""

    def __init__(self, what: str, remedy: str) -> None:
        """Keep apart what is missing and what fixes it."""
        super().__init__(f"{what}. {remedy}")
        self.what = what
        self.remedy = remedy
