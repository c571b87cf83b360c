# SPDX-License-Identifier: Apache-2.0
"""What the host can do, passed in by the caller: nothing is probed here."""

import dataclasses

from ceilometer_perf.events import Version


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """Facts that change what a guest's XML may ask for."""

    #: The libvirt that will read the XML; None if unknown, taken as new.
    libvirt: Version | None = None
    #: The kernel has the ``intel_cqm`` PMU, which Linux dropped in 4.14.
    intel_cqm: bool = False
    #: The CPUs that are online; None if unknown.
    online: frozenset[int] | None = None
