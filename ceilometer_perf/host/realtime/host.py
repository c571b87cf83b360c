# SPDX-License-Identifier: Apache-2.0
"""A host as the conditions see it: files below a root, Nova, libvirt."""

import gzip
from functools import cached_property
from pathlib import Path

from ceilometer_perf.guest.nova_conf import NovaConf
from ceilometer_perf.host import cpu_sets, kernel_files
from ceilometer_perf.host.cpu_sets import CPUs
from ceilometer_perf.host.probe.virt import Virt

CPU = "sys/devices/system/cpu"


class Host:
    """Reads what it is asked for; what can't be read is None."""

    def __init__(
        self, virt: Virt, conf: NovaConf | None, root: Path = Path("/")
    ) -> None:
        """``conf``: of the nova-compute of this host, None if not found."""
        self.virt = virt
        self.conf = conf
        self.root = root

    @property
    def proc(self) -> Path:
        """Where processes are."""
        return self.root / "proc"

    def text(self, path: str) -> str | None:
        """What a file says."""
        return kernel_files.text(self.root / path)

    def number(self, path: str) -> int | None:
        """The number that a file says."""
        return kernel_files.number(self.root / path)

    def cpu_list(self, path: str) -> CPUs | None:
        """The CPUs that a file lists."""
        return cpu_sets.cpu_list(self.root / path)

    def cpu_mask(self, path: str) -> CPUs | None:
        """The CPUs whose bits a file has."""
        return cpu_sets.cpu_mask(self.root / path)

    def glob(self, pattern: str) -> list[Path]:
        """Files by a pattern, in order."""
        return sorted(self.root.glob(pattern))

    @cached_property
    def online(self) -> CPUs:
        """All CPUs."""
        return self.cpu_list(f"{CPU}/online") or frozenset()

    @cached_property
    def isolated(self) -> CPUs:
        """CPUs that the scheduler leaves alone, by boot or by cpuset."""
        found = f"{CPU}/isolated", "sys/fs/cgroup/cpuset.cpus.isolated"
        sets = (self.cpu_list(path) or frozenset() for path in found)
        return frozenset().union(*sets)

    @cached_property
    def cpus(self) -> CPUs:
        """The CPUs of realtime guests, to be kept free of all else.

        Nova's dedicated ones; what the kernel isolates, without them.
        """
        dedicated = self.conf and self.conf.dedicated_cpus
        return dedicated or self.isolated

    @cached_property
    def nohz_full(self) -> CPUs | None:
        """CPUs whose tick stops; None if the kernel can't do that."""
        return self.cpu_list(f"{CPU}/nohz_full")

    @cached_property
    def release(self) -> tuple[int, int]:
        """The kernel's version, 0.0 if unknown."""
        major, _, rest = (
            self.text("proc/sys/kernel/osrelease") or ""
        ).partition(".")
        minor = rest.partition(".")[0].partition("-")[0]
        both = major.isdecimal() and minor.isdecimal()
        return (int(major), int(minor)) if both else (0, 0)

    @cached_property
    def boot(self) -> dict[str, str]:
        """The kernel's boot parameters; the last of a name counts."""
        words = (self.text("proc/cmdline") or "").split()
        pairs = (word.partition("=") for word in words)
        return {name: value for name, _, value in pairs}

    @cached_property
    def config(self) -> str | None:
        """What the kernel was built with."""
        release = self.text("proc/sys/kernel/osrelease")
        for path in f"boot/config-{release}", f"lib/modules/{release}/config":
            if found := self.text(path):
                return found
        try:
            packed = (self.proc / "config.gz").read_bytes()
            return gzip.decompress(packed).decode(errors="replace")
        except (OSError, EOFError):
            return None

    @cached_property
    def _commands(self) -> dict[str, Path]:
        return {
            kernel_files.text(path) or "": path.parent
            for path in self.glob("proc/[0-9]*/comm")
        }

    def process(self, *names: str) -> Path | None:
        """The folder of a process with one of these names."""
        found = (self._commands.get(name) for name in names)
        return next((path for path in found if path is not None), None)

    def listed_at_boot(self, listed: str) -> CPUs:
        """CPUs in the grammar of boot parameters: ``1-N``, ``0-7:2/4``."""
        if listed == "all":
            return self.online
        last = str(max(self.online, default=0))
        parts = (part.replace("N", last) for part in listed.split(","))
        return frozenset().union(*map(_group, parts))


def _group(part: str) -> CPUs:
    """A range, of which ``:USED/SIZE`` takes the first of every few."""
    members, colon, pattern = part.partition(":")
    found = cpu_sets.parse_list(members)
    used, _, size = pattern.partition("/")
    if not (colon and used.isdecimal() and size.isdecimal() and int(size)):
        return found
    first = min(found, default=0)
    return frozenset(n for n in found if (n - first) % int(size) < int(used))
