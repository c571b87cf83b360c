# SPDX-License-Identifier: Apache-2.0
"""The lab: a private libvirtd with tiny QEMU guests."""

from tests.lab.errors import LabError
from tests.lab.guests import EVENTS, MONITORS, Guest
from tests.lab.lab import Lab
from tests.lab.resctrl import Hardware

__all__ = ["EVENTS", "MONITORS", "Guest", "Hardware", "Lab", "LabError"]
