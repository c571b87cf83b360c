# SPDX-License-Identifier: Apache-2.0
"""Whether this host can run KVM guests."""

import fcntl
import os

KVM_GET_API_VERSION = 0xAE00
KVM_API_VERSION = 12


def usable() -> bool:
    """Whether /dev/kvm is not just there, but opens and answers."""
    try:
        device = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fcntl.ioctl(device, KVM_GET_API_VERSION) == KVM_API_VERSION
    except OSError:
        return False
    finally:
        os.close(device)
