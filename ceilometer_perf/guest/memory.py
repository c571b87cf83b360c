# SPDX-License-Identifier: Apache-2.0
"""Page sizes and memory that is locked.

The rules are ``_get_numa_pagesize_constraint`` and
``get_locked_memory_constraint`` of ``nova.virt.hardware``. Memory encryption,
which makes Nova lock memory too, is out of scope: what the XML has stays.
"""

from oslo_utils import strutils

from ceilometer_perf.guest import errors
from ceilometer_perf.guest.asked import Asked

ANY_SIZE = ("any", "large")  # the flavors that leave the choice to the image
NAMED_SIZES = (*ANY_SIZE, "small")


def check_page_size(asked: Asked) -> None:
    """Refuse page sizes that Nova refuses; choosing one is Nova's job."""
    flavor = asked.flavor.get("hw:mem_page_size")
    image = asked.image.get("hw_mem_page_size")
    if flavor:
        _check_spelling(flavor)
    if image and flavor not in ANY_SIZE:
        raise errors.NovaRefusal(
            "MemoryPageSizeForbidden",
            f"The image's hw_mem_page_size={image} needs hw:mem_page_size any "
            f"or large in the flavor, which has {flavor or 'none'}",
        )
    if image:
        _check_spelling(image)


def _check_spelling(size: str) -> None:
    if size in NAMED_SIZES or size.isdecimal():
        return
    try:
        strutils.string_to_bytes(size, return_int=True)
    except (ValueError, OverflowError):
        raise errors.NovaRefusal(
            "MemoryPageSizeInvalid",
            f"{size!r} is not a page size: write small, large, any, a "
            "number of KiB, or a number with a unit such as 2MB",
        ) from None


def locked(asked: Asked) -> bool:
    """Whether the guest's memory is to be locked, realtime apart."""
    wanted = asked.agreed_bool(
        "locked_memory", "FlavorImageLockedMemoryConflict"
    )
    # The image has a page size only if the flavor does.
    if wanted and not asked.flavor.get("hw:mem_page_size"):
        raise errors.NovaRefusal(
            "LockMemoryForbidden",
            "Locked memory needs a page size: set hw:mem_page_size in the "
            "flavor as well",
        )
    return bool(wanted)
