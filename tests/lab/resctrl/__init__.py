# SPDX-License-Identifier: Apache-2.0
"""resctrl from nothing: a file system that imitates the kernel's.

Not the kernel's are the numbers, and that who starts a thread can't be
known; see groups.py and tasks.py. Everything else, modes and errors
included, is as users of /sys/fs/resctrl meet it.
"""

from tests.lab.resctrl.hardware import AMD, ARM, INTEL, Hardware

__all__ = ["AMD", "ARM", "INTEL", "Hardware"]
