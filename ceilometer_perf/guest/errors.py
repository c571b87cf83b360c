# SPDX-License-Identifier: Apache-2.0
"""What the companion refuses, under the name that Nova gives it.

Each class that stands for a refusal of Nova's carries the name of Nova's own
exception in ``nova_class``, so that a program may compare the two. Classes
without one are faults that Nova never sees, such as XML that isn't XML.
"""

from typing import ClassVar


class GuestError(Exception):
    """Anything wrong with what was asked for, or with the domain."""

    nova_class: ClassVar[str | None] = None


class InvalidError(GuestError):
    """A set of CPUs is malformed (``nova.exception.Invalid``)."""

    nova_class = "Invalid"


class InvalidRequestError(GuestError):
    """Values that exclude each other (``InvalidRequest``)."""

    nova_class = "InvalidRequest"


class ConfigurationError(GuestError):
    """nova.conf can't be used as it is (``InvalidConfiguration``)."""

    nova_class = "InvalidConfiguration"


class FlavorImageConflictError(GuestError):
    """Flavor and image ask for opposites (``FlavorImageConflict``)."""

    nova_class = "FlavorImageConflict"


class LockedMemoryConflictError(FlavorImageConflictError):
    """The same for memory locks (``FlavorImageLockedMemoryConflict``)."""

    nova_class = "FlavorImageLockedMemoryConflict"


class LockedMemoryError(GuestError):
    """Locked memory without a page size (``LockMemoryForbidden``)."""

    nova_class = "LockMemoryForbidden"


class PageSizeError(GuestError):
    """A page size that is none (``MemoryPageSizeInvalid``)."""

    nova_class = "MemoryPageSizeInvalid"


class PageSizeConflictError(GuestError):
    """An image overrules a page size (``MemoryPageSizeForbidden``)."""

    nova_class = "MemoryPageSizeForbidden"


class CPUPolicyError(GuestError):
    """An unknown CPU policy (``InvalidCPUAllocationPolicy``)."""

    nova_class = "InvalidCPUAllocationPolicy"


class PinningForbiddenError(GuestError):
    """An image overrules the CPU policy (``ImageCPUPinningForbidden``)."""

    nova_class = "ImageCPUPinningForbidden"


class DedicatedMaskError(GuestError):
    """A bad dedicated mask (``InvalidMixedInstanceDedicatedMask``)."""

    nova_class = "InvalidMixedInstanceDedicatedMask"


class DedicatedMaskPolicyError(GuestError):
    """That mask without mixed (``RequiredMixedInstancePolicy``)."""

    nova_class = "RequiredMixedInstancePolicy"


class MixedMaskError(GuestError):
    """Mixed: both masks or none (``RequiredMixedOrRealtimeCPUMask``)."""

    nova_class = "RequiredMixedOrRealtimeCPUMask"


class RealtimePolicyError(GuestError):
    """Realtime on shared CPUs (``RealtimeConfigurationInvalid``)."""

    nova_class = "RealtimeConfigurationInvalid"


class RealtimeMaskError(GuestError):
    """A mask that leaves no room (``RealtimeMaskNotFoundOrInvalid``)."""

    nova_class = "RealtimeMaskNotFoundOrInvalid"


class EmulatorThreadsError(GuestError):
    """An unknown policy (``InvalidEmulatorThreadsPolicy``)."""

    nova_class = "InvalidEmulatorThreadsPolicy"


class IsolateError(GuestError):
    """Isolate on shared CPUs (``BadRequirementEmulatorThreadsPolicy``)."""

    nova_class = "BadRequirementEmulatorThreadsPolicy"


class DomainXMLError(GuestError):
    """The text is no domain XML that libvirt would take."""


class NotInXMLError(GuestError):
    """The XML lacks a choice that is Nova's to make, such as a pin."""

    def __init__(self, what: str, remedy: str) -> None:
        """Keep apart what is missing and what mends it."""
        super().__init__(f"{what}. {remedy}")
        self.what = what
        self.remedy = remedy
