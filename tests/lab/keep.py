# SPDX-License-Identifier: Apache-2.0
"""The process that holds a lab together and clears it away.

It runs in a mount namespace of its own in which the folders that libvirtd
uses are the lab's, and runs there what it is asked to. When its owner dies, or
on SIGTERM, it kills everything in that namespace and removes the lab's folder.
Without an owner it stays until it is told to go.
"""

import argparse
import contextlib
import ctypes
import json
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.lab import cleaning, processes, sysfs
from tests.lab.errors import LabError
from tests.lab.keeper import READY, SOCKET
from tests.lab.requirements import PATH, find
from tests.lab.resctrl import mount as resctrl

# Sub-folder of the lab: where libvirtd looks for it.
MOUNTS = {
    "run": processes.LIBVIRT_RUN,
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
# Debian's libvirtd looks up this user before it reads which one to use, and
# only the package that would also run a libvirtd on the host creates it.
ACCOUNT = "libvirt-qemu"
ACCOUNT_LINES = {
    "/etc/passwd": f"{ACCOUNT}:x:64055:64055::/:/usr/sbin/nologin\n",
    "/etc/group": f"{ACCOUNT}:x:64055:\n",
}
SYS_FS = Path("/sys/fs")
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Keep the lab in a folder until its owner dies or SIGTERM comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--owner", type=int)
    parser.add_argument("--hostname", help="in a UTS namespace of its own")
    arguments = parser.parse_args()
    if arguments.hostname:
        socket.sethostname(arguments.hostname)
    os.chdir("/")
    os.umask(0o022)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        _keep(arguments.folder, arguments.owner)
    except (LabError, OSError) as error:
        _answer(str(error))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        cleaning.clear(arguments.folder)
        _reap()


def _keep(folder: Path, owner: int | None) -> None:
    _furnish(folder)
    # Whoever in the lab loses its parent becomes a child of this process.
    # libvirtd waits for its dead QEMUs to be reaped, and not every container
    # has an init that does it soon.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / SOCKET))
        server.listen()
        # Held until this process ends: the lock says that the lab is kept.
        cleaning.claim(folder)
        _answer(READY)
        _serve(server, owner)


def _answer(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())
        os.dup2(0, 1)  # /dev/null: the owner reads to the end of this


def _furnish(folder: Path) -> None:
    for name, place in MOUNTS.items():
        (folder / name).mkdir()
        # An empty folder may stay behind on the host. Removing it would take
        # the mount away from other labs.
        Path(place).mkdir(parents=True, exist_ok=True)
        _bind(folder / name, place)
    for name, place in sysfs.PLACES.items():
        if Path(place).is_dir():
            _bind(folder / name, place)
    if (folder / resctrl.FOLDER).exists():
        _move_resctrl(folder / resctrl.FOLDER)
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        _add_account(folder / "accounts")


def _add_account(folder: Path) -> None:
    folder.mkdir()
    for place, line in ACCOUNT_LINES.items():
        ours = folder / Path(place).name
        ours.write_text(Path(place).read_text() + line)
        _bind(ours, place)


def _move_resctrl(mount_point: Path) -> None:
    """Have it where the kernel has its own. Nobody can make a folder there."""
    cgroups = os.open(SYS_FS / "cgroup", os.O_PATH)
    _mount("-t", "tmpfs", "tmpfs", str(SYS_FS))
    (SYS_FS / "cgroup").mkdir()
    (SYS_FS / "resctrl").mkdir()
    held = f"/proc/{os.getpid()}/fd/{cgroups}"
    _mount("--rbind", held, str(SYS_FS / "cgroup"))
    os.close(cgroups)
    # Not bound: a mount that stayed in the folder would keep it from going.
    _mount("--move", str(mount_point), str(SYS_FS / "resctrl"))


def _bind(ours: Path, place: str) -> None:
    _mount("--bind", str(ours), place)


def _mount(*arguments: str) -> None:
    command = [find("mount"), *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise LabError(done.stderr.strip())


def _serve(server: socket.socket, owner: int | None) -> None:
    poll = select.poll()
    poll.register(server, select.POLLIN)
    children = _watch_children()
    poll.register(children, select.POLLIN)
    handle = None
    if owner is not None:
        # Not a parent-death signal: that comes when the owner's *thread*
        # ends. Not a pipe: the owner's forks would hold it open.
        handle = os.pidfd_open(owner)
        if os.getppid() != owner:
            return
        poll.register(handle, select.POLLIN)
    while True:
        ready = [number for number, _ in poll.poll()]
        if handle in ready:
            return
        if children.fileno() in ready:
            children.recv(4096)
            _reap()
        if server.fileno() in ready:
            _obey(server)


def _watch_children() -> socket.socket:
    here, there = socket.socketpair()
    there.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(there.detach(), warn_on_full_buffer=False)
    return here


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _obey(server: socket.socket) -> None:
    # Whoever asked may be gone: that must not end the lab.
    with contextlib.suppress(OSError, ValueError):
        client, _ = server.accept()
        client.settimeout(5)
        with client, client.makefile("rw") as line:
            command = json.loads(line.readline())
            done = subprocess.run(
                command,
                env={"PATH": PATH, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            json.dump([done.returncode, done.stderr], line)
            line.write("\n")


if __name__ == "__main__":
    main()
