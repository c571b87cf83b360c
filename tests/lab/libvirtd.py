# SPDX-License-Identifier: Apache-2.0
"""The lab's own libvirtd: started, stopped, killed and hung at will."""

import signal
import time
from pathlib import Path

from tests.lab import keeper, processes
from tests.lab.errors import LabError
from tests.lab.requirements import find, qemu_driver

# Who may read counters may do so without privilege; who may start guests is
# as good as root, so the other socket is root's.
LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0700"
unix_sock_admin_perms = "0700"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

# As little of the host as can be: no cgroups, no labels, no extra
# namespaces, no virtlogd, no huge pages.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
hugetlbfs_mount = [ ]
"""

#: What a libvirtd has found out of QEMU, by the name of the file: it asks each
#: new QEMU for a second. Whether that is still true it knows by itself.
_known: dict[str, bytes] = {}

# One file descriptor per guest and event, as many as its systemd unit allows.
OPEN_FILES = 8192
CAPABILITIES = "cache/qemu/capabilities"


def remember(folder: Path) -> None:
    """Keep for the next lab of this process what a libvirtd has found out."""
    for path in (folder / CAPABILITIES).glob("*.xml"):
        _known[path.name] = path.read_bytes()


class Libvirtd:
    """A libvirtd within a lab's mount namespace."""

    def __init__(self, folder: Path, preload: Path | None = None) -> None:
        self._folder = folder
        self._preload = preload
        self._drivers = folder / "drivers"
        self._log = folder / "log" / "libvirtd.log"
        self._pid_file = folder / "run" / "libvirtd.pid"
        self._mark = processes.mark_of(folder / "run")

    @staticmethod
    def configure(folder: Path, libvirtd: str = "", qemu: str = "") -> None:
        """Write the configuration of a lab's libvirtd, with these lines."""
        # This driver alone: the others would look after the host's networks,
        # firewall, storage and devices.
        (folder / "drivers").mkdir()
        (folder / "drivers" / qemu_driver().name).symlink_to(qemu_driver())
        (folder / "etc" / "libvirtd.conf").write_text(LIBVIRTD_CONF + libvirtd)
        (folder / "etc" / "qemu.conf").write_text(QEMU_CONF + qemu)
        (folder / CAPABILITIES).mkdir(parents=True)
        for name, content in _known.items():
            (folder / CAPABILITIES / name).write_bytes(content)

    @property
    def pid(self) -> int:
        """Its PID; LabError if it does not run."""
        pid = self._find()
        if pid is None:
            raise LabError("the lab's libvirtd does not run")
        return pid

    @property
    def state(self) -> str:
        """One of 'running', 'stopped' (as by SIGSTOP) and 'not running'."""
        pid = self._find()
        if pid is None:
            return "not running"
        stat = Path(f"/proc/{pid}/stat").read_text()
        # The name before it is in brackets and may hold anything.
        letter = stat.rpartition(")")[2].split()[0]
        return "stopped" if letter == "T" else "running"

    def start(self) -> None:
        """Start it if it does not run; it listens when this returns."""
        if self._find() is not None:
            return
        command = [find("prlimit"), f"--nofile={OPEN_FILES}"]
        command += [find("env"), *self._environment(), find("libvirtd")]
        # With --daemon it returns when it is up, or says why it isn't.
        command += ["--daemon", "--pid-file", "/run/libvirt/libvirtd.pid"]
        code, stderr = keeper.run(self._folder, command)
        if code:
            reason = stderr.strip() or self.last_words()
            raise LabError(f"libvirtd does not start: {reason}")

    def stop(self, seconds: float = 10) -> None:
        """End it in the orderly way, by force if it doesn't."""
        pid = self._find()
        if pid is None:
            return
        processes.send(pid, signal.SIGTERM, self._mark)
        processes.send(pid, signal.SIGCONT, self._mark)
        if not processes.wait_gone(pid, self._mark, seconds):
            self.kill(signal.SIGKILL)

    def kill(self, signum: int) -> None:
        """Send it a signal; after SIGKILL it is gone when this returns."""
        pid = self.pid
        processes.send(pid, signum, self._mark)
        if signum == signal.SIGKILL:
            processes.wait_gone(pid, self._mark, 10)
        elif signum == signal.SIGSTOP:
            while self.state == "running":
                time.sleep(0.01)

    def restart(self) -> None:
        """A new libvirtd; the guests live on."""
        self.stop()
        self.start()

    def _find(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if processes.belongs(pid, self._mark) else None

    def _environment(self) -> list[str]:
        environment = {
            "LIBVIRT_DRIVER_DIR": str(self._drivers),
            # Without a bus it can't register guests with the host's machined.
            "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/run/libvirt/no-bus",
        }
        if self._preload is not None:
            environment["LD_PRELOAD"] = str(self._preload)
        return [f"{name}={value}" for name, value in environment.items()]

    def last_words(self) -> str:
        """The errors that it logged last, in one line."""
        if not self._log.exists():
            return "it left no log"
        log = self._log.read_text().splitlines()
        errors = [line.partition(": error : ")[2] for line in log]
        return "; ".join([error for error in errors if error][-2:])
