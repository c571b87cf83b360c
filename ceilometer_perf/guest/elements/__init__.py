# SPDX-License-Identifier: Apache-2.0
"""Every element that the companion knows, each declared once.

A new element is a declaration in a module of this package, a line here, and
a pair of files among the golden tests.
"""

from typing import Any

from ceilometer_perf.guest.elements import (
    features,
    memory,
    monitors,
    perf,
    threads,
    vcpusched,
)
from ceilometer_perf.guest.elements.base import Element

#: In the order in which they are fixed: I/O threads follow the emulator.
ELEMENTS: tuple[Element[Any], ...] = (
    perf.EVENT,
    features.PMU,
    memory.NOSHAREPAGES,
    memory.LOCKED,
    vcpusched.VCPUSCHED,
    threads.EMULATORPIN,
    threads.IOTHREADPIN,
    monitors.CACHETUNE,
    monitors.MEMORYTUNE,
)

__all__ = ["ELEMENTS", "Element"]
