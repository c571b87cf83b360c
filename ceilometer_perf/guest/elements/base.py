# SPDX-License-Identifier: Apache-2.0
"""What a declaration of an element consists of."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from ceilometer_perf.guest import xml
from ceilometer_perf.guest.requirements import Requirements

W = TypeVar("W")

REMEDY = (
    "Hard-reboot the instance so that Nova writes it, or define the output "
    "of guest apply; it takes effect at the next boot"
)


@dataclasses.dataclass(frozen=True)
class Element(Generic[W]):
    """One element of a domain, and the rule that it follows.

    ``W`` is what the rule requires of this element. ``faults`` and ``merge``
    compare and change what the XML means, never how it is spelled.
    """

    name: str
    where: str
    why: str
    remedy: str
    #: What this domain must contain, None if nothing is required. Raises
    #: NotInXMLError if only Nova can tell.
    wanted: Callable[[xml.Element, Requirements], W | None]
    #: A sentence for each thing that is missing or wrong.
    faults: Callable[[xml.Element, W], Iterable[str]]
    #: Fix that, and change nothing else.
    merge: Callable[[xml.Element, W], None]
