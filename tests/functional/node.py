# SPDX-License-Identifier: Apache-2.0
"""A host on which the agent is installed, as a distribution does it.

It has the user ceilometer, the commands in /usr/bin, and our sample sudoers
file as it is in etc/. All of that is in mount namespaces, which end with the
processes in them: the real host keeps its own /etc and /usr/bin.
"""

import os
import shutil
import stat
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
VENV = CHECKOUT / ".venv" / "bin"
USER = "ceilometer"
UID = 64055
CONFIG = Path("/etc/ceilometer/ceilometer.conf")
ROOTWRAP = "/usr/bin/ceilometer-rootwrap /etc/ceilometer/rootwrap.conf"

# "slave": what the lab mounts and unmounts meanwhile happens here, too.
UNSHARE = ("unshare", "--mount", "--propagation", "slave", "sh", "-ec")
INSTALL = """\
over() { mount -t overlay -o "lowerdir=$1:$2" overlay "$2"; }
over "$1/etc" /etc
over "$1/bin" /usr/bin
if [ -n "$3" ]; then  # a folder around the checkout is closed to others
    mount --bind "$2" "$1/checkout"
    mount -t tmpfs -o mode=755 tmpfs "$3"
    mkdir -p "$2"
    mount --bind "$1/checkout" "$2"
fi
user="$4"
shift 4
exec setpriv "--reuid=$user" "--regid=$user" --clear-groups "$@"
"""


class Node:
    """The files of the host; its processes come and go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("etc/ceilometer", "etc/sudoers.d", "bin", "checkout"):
            (folder / name).mkdir(parents=True)
        for name, line in (
            ("passwd", f"{USER}:*:{UID}:{UID}::/nonexistent:/bin/false\n"),
            ("group", f"{USER}:*:{UID}:\n"),
        ):
            others = Path("/etc", name).read_text().splitlines(keepends=True)
            kept = [x for x in others if not x.startswith(f"{USER}:")]
            (folder / "etc" / name).write_text("".join([*kept, line]))
        sudoers = folder / "etc" / "sudoers.d" / "ceilometer-perf"
        shutil.copy(CHECKOUT / "etc/sudoers.d/ceilometer-perf", sudoers)
        sudoers.chmod(0o440)
        for command in ("privsep-helper", "ceilometer-polling"):
            (folder / "bin" / command).symlink_to(VENV / command)

    @property
    def config(self) -> Path:
        """What is at CONFIG there; root's."""
        return self._folder / CONFIG.relative_to("/")

    def use_rootwrap(self) -> None:
        """Have oslo.rootwrap, without a filter, instead of our sudoers file.

        What sudo allows then is what each OpenStack service has it allow.
        """
        etc = self._folder / "etc"
        (etc / "ceilometer/rootwrap.d").mkdir()
        (etc / "ceilometer/rootwrap.conf").write_text(
            "[DEFAULT]\nfilters_path = /etc/ceilometer/rootwrap.d\n"
            "exec_dirs = /usr/bin\n"
        )
        sudoers = etc / "sudoers.d" / "ceilometer-perf"
        sudoers.write_text(f"{USER} ALL = (root) NOPASSWD: {ROOTWRAP} *\n")
        (self._folder / "bin" / "ceilometer-rootwrap").symlink_to(
            VENV / "ceilometer-rootwrap"
        )

    def give(self, folder: Path) -> None:
        """Make a folder, and what is in it, the agent's."""
        for path in (folder, *folder.rglob("*")):
            os.chown(path, UID, UID)

    def command(self, *words: str | Path) -> list[str]:
        """What runs a command there as the agent's user."""
        names = [self._folder, CHECKOUT, _closed() or "", str(UID), *words]
        return [*UNSHARE, INSTALL, "sh", *map(str, names)]


def _closed() -> Path | None:
    """The outermost folder on the way here that isn't for everybody."""
    for folder in reversed(CHECKOUT.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None
