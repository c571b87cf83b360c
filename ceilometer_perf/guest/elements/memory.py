# SPDX-License-Identifier: Apache-2.0
"""``<memoryBacking>``: ``<nosharepages/>`` and ``<locked/>``.

Nova writes them in ``LibvirtDriver._get_guest_memory_backing_config``. Huge
pages and everything else in there stay as they are.
"""

from collections.abc import Callable, Iterator

from ceilometer_perf.guest import domain, xml
from ceilometer_perf.guest.elements.base import REMEDY, Element
from ceilometer_perf.guest.requirements import Requirements

ORDER = ("hugepages", "nosharepages", "locked")


def _flag(
    tag: str, why: str, asks: Callable[[Requirements], bool], missing: str
) -> Element[str]:
    """An empty element whose presence is its meaning."""

    def wanted(_root: xml.Element, asked: Requirements) -> str | None:
        return tag if asks(asked) else None

    def faults(root: xml.Element, tag: str) -> Iterator[str]:
        if root.find(f"memoryBacking/{tag}") is None:
            yield missing

    def merge(root: xml.Element, tag: str) -> None:
        xml.insert(domain.container(root, "memoryBacking"), tag, ORDER)

    where = f"/domain/memoryBacking/{tag}"
    return Element(tag, where, why, REMEDY, wanted, faults, merge)


NOSHAREPAGES = _flag(
    "nosharepages",
    "a realtime guest must not wait while the kernel unshares a page",
    lambda asked: asked.realtime is not None,
    "the host may merge the guest's pages with others",
)

LOCKED = _flag(
    "locked",
    "hw:cpu_realtime or hw:locked_memory asks for memory that is never "
    "swapped out",
    lambda asked: asked.locked,
    "the host may swap the guest's memory out",
)
