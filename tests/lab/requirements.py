# SPDX-License-Identifier: Apache-2.0
"""What the host has to bring, and the Debian package that brings it."""

import os
import platform
import shutil
from pathlib import Path

from tests.lab.errors import LabError

# Root's PATH does not always have these.
PATH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"]
)

COMMANDS = {
    "libvirtd": "libvirt-daemon",
    "mount": "mount",
    "prlimit": "util-linux",
    "qemu-system-x86_64": "qemu-system-x86",
    "unshare": "util-linux",
}
# Where distributions put libvirt's drivers, below /usr.
DRIVER = "libvirt/connection-driver/libvirt_driver_qemu.so"
DRIVER_PLACES = ("lib/*", "lib64", "lib")
COMPILER = {"gcc": "gcc and libc6-dev"}
FUSE = {"fusermount3": "fuse3"}
FUSE_DEVICE = Path("/dev/fuse")


def check(*, compiler: bool = False, fuse: bool = False) -> None:
    """Raise LabError unless a lab can be built here."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise LabError("the lab runs on Linux on x86_64 only")
    check_root()
    needed = {
        **COMMANDS,
        **(COMPILER if compiler else {}),
        **(FUSE if fuse else {}),
    }
    for command, package in needed.items():
        find(command, package)
    qemu_driver()
    if fuse and not FUSE_DEVICE.exists():
        raise LabError(
            f"{FUSE_DEVICE} is missing: modprobe fuse, or, in a container, "
            "have it given the device"
        )


def check_root() -> None:
    """Raise LabError unless this process is root's."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes a mount namespace")


def find(command: str, package: str | None = None) -> str:
    """Where a command is; LabError names the package that brings it."""
    path = shutil.which(command, path=PATH)
    if path is None:
        package = package or COMMANDS[command]
        raise LabError(f"{command} is missing: apt install {package}")
    return path


def qemu_driver() -> Path:
    """Where libvirt's QEMU driver is."""
    for place in DRIVER_PLACES:
        for path in Path("/usr").glob(f"{place}/{DRIVER}"):
            return path
    raise LabError(
        "libvirt's QEMU driver is missing: "
        "apt install libvirt-daemon-driver-qemu"
    )
