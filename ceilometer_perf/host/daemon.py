# SPDX-License-Identifier: Apache-2.0
"""Which of libvirt's daemons this host has, for messages."""

from pathlib import Path

RUN = Path("/run/libvirt")


def name() -> str:
    """``virtqemud`` of the modular daemons, or ``libvirtd``."""
    modular = (RUN / "virtqemud-sock-ro").exists()
    return "virtqemud" if modular else "libvirtd"
