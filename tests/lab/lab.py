# SPDX-License-Identifier: Apache-2.0
"""A private libvirtd with tiny guests, and nothing left of it afterwards."""

import contextlib
import dataclasses
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import libvirt

from tests.lab import (
    boot,
    cleaning,
    keeper,
    kvm,
    libvirtd,
    pmu,
    requirements,
    spinning,
    sysfs,
)
from tests.lab.errors import LabError
from tests.lab.guests import EVENTS, FLAVOR, Guest
from tests.lab.libvirtd import Libvirtd
from tests.lab.resctrl import Hardware, mount

FAKE_PMU = "fakepmu.so"
EMULATED_FLAVOR = "lab.emulated"
LONGEST_SOCKET = 107  # what fits into a struct sockaddr_un
STARTERS = 4
IN_TCG = "in-tcg"  # the guests that KVM doesn't get to spin


class Lab:
    """A folder, its keeper, a libvirtd in it and the guests of that.

    It ends with its block, with `down()`, or with the process that made it,
    however that one ends. With `owned=False` it stays until `down()`.
    """

    libvirtd: Libvirtd

    def __init__(
        self,
        *,
        fake_pmu: bool = False,
        resctrl: Hardware | None = None,
        folder: Path | None = None,
        owned: bool = True,
        libvirtd_conf: str = "",
        qemu_conf: str = "",
        hostname: str | None = None,
    ) -> None:
        """``libvirtd_conf``, ``qemu_conf``: lines for these files.

        ``hostname``: the name that the host has in there, if another.
        """
        self.fake_pmu = fake_pmu
        self._hostname = hostname
        self._conf = libvirtd_conf, qemu_conf
        self._hardware = resctrl
        self._folder = folder
        self._owned = owned
        # A folder that another lab or somebody else has made is not ours.
        self._mine = False
        self._keeper: subprocess.Popen[str] | None = None
        self._connection: libvirt.virConnect | None = None
        self._connected_to = 0

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The lab that is up in a folder; LabError if none is."""
        kept = cleaning.is_lab(folder) and cleaning.keeper_pid(folder)
        if not kept:
            raise LabError(f"no lab is up in {folder}")
        lab = cls(folder=folder.absolute(), owned=False)
        lab.fake_pmu = (folder / FAKE_PMU).exists()
        lab._hardware = mount.hardware(folder)
        lab._mine = True
        lab._attach()
        return lab

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # The lab

    def up(self) -> None:
        """Bring it up; libvirtd answers when this returns."""
        requirements.check(
            compiler=self.fake_pmu, fuse=self._hardware is not None
        )
        cleaning.clear_stale(self._folder)
        self._make_folder()
        try:
            if self._hardware is not None:
                # Before the keeper, which takes it along to where it is
                # alone with it; this side of it is for everybody.
                mount.start(self.folder, self._hardware)
            sysfs.lay_out(self.folder, self._hardware or Hardware())
            self._keeper = keeper.start(
                self.folder, owned=self._owned, hostname=self._hostname
            )
            Libvirtd.configure(self.folder, *self._conf)
            boot.write(self.folder / "boot")
            if self.fake_pmu:
                pmu.build_fake(self.folder / FAKE_PMU, self.run_dir)
            self._attach()
            self._start_libvirtd()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End it and remove its folder. Again is fine."""
        if self._mine:
            libvirtd.remember(self.folder)
            keeper.take_down(self.folder)
            self._mine = False
        if self._keeper is not None:
            self._keeper.wait()
            self._keeper = None
        # Only now: a libvirtd that hangs would hold up an orderly goodbye.
        self._disconnect()

    def _start_libvirtd(self) -> None:
        self.libvirtd.start()
        try:
            self.connection.getLibVersion()
        except (LabError, libvirt.libvirtError) as error:
            words = self.libvirtd.last_words()
            raise LabError(f"libvirtd does not come up: {words}") from error

    def _make_folder(self) -> None:
        if self._folder is None:
            made = tempfile.mkdtemp(prefix=cleaning.PREFIX, dir=cleaning.PLACE)
            self._folder = Path(made)
        else:
            self._folder = self._folder.absolute()
            if len(f"{self._folder}/run/libvirt-sock-ro") > LONGEST_SOCKET:
                raise LabError(f"too long for a socket's path: {self._folder}")
            if cleaning.is_lab(self._folder):
                raise LabError(f"a lab is up in {self._folder} already")
            try:
                self._folder.mkdir()
            except OSError as error:
                reason = f"can't make {self._folder}: {error.strerror}"
                raise LabError(reason) from error
        self._mine = True
        # Open to all: agents without privilege read what is in it.
        self._folder.chmod(0o755)

    def _attach(self) -> None:
        preload = self.folder / FAKE_PMU if self.fake_pmu else None
        self.libvirtd = Libvirtd(self.folder, preload)

    # What it is

    @property
    def folder(self) -> Path:
        """All that it has on disk."""
        if self._folder is None:
            raise LabError("the lab is not up")
        return self._folder

    @property
    def run_dir(self) -> Path:
        """What its libvirtd sees as /run/libvirt."""
        return self.folder / "run"

    @property
    def resctrl_path(self) -> Path:
        """What its libvirtd sees as /sys/fs/resctrl."""
        if self._hardware is None:
            raise LabError("the lab has no resctrl")
        return self.folder / mount.FOLDER

    def change_resctrl(self, **changes: Any) -> Hardware:
        """Have another machine from now on; see `Hardware`."""
        if self._hardware is None:
            raise LabError("the lab has no resctrl")
        self._hardware = dataclasses.replace(self._hardware, **changes)
        mount.save(self.folder, self._hardware)
        return self._hardware

    @property
    def uri(self) -> str:
        """For root: reads and writes."""
        return f"qemu+unix:///system?socket={self.run_dir}/libvirt-sock"

    @property
    def uri_ro(self) -> str:
        """For everybody: reads."""
        return f"{self.uri}-ro"

    @property
    def virt(self) -> str:
        """What its guests run on."""
        return "kvm" if kvm.usable() else "qemu"

    @property
    def emulates(self) -> tuple[str, ...]:
        """What in it is not real, for people."""
        resctrl = () if self._hardware is None else (mount.EMULATES,)
        return (*self._emulated_pmu(), *resctrl, *self._emulated_cpu())

    @property
    def flavor(self) -> str:
        """Its guests' flavor, which says in each sample what is not real."""
        parts = ["pmu"] if self.fake_pmu else []
        parts += [] if self._hardware is None else ["resctrl"]
        return "-".join([EMULATED_FLAVOR, *parts]) if parts else FLAVOR

    @property
    def events(self) -> tuple[str, ...]:
        """The perf events that its guests can have."""
        missing = () if self.fake_pmu else pmu.missing_events()
        return tuple(event for event in EVENTS if event not in missing)

    def _emulated_pmu(self) -> tuple[str, ...]:
        if not self.fake_pmu:
            return ()
        cqm = "perf.cmt, mbmt, mbml: a software clock, at a rate for each"
        missing = pmu.missing_events()
        if not missing:
            return (cqm,)
        which = "" if not pmu.real_pmu() else f" ({', '.join(missing)})"
        clock = (
            "a software clock stands in for the PMU, at a fixed rate for each "
            "event"
        )
        return (f"hardware counters{which}: {clock}", cqm)

    def _emulated_cpu(self) -> tuple[str, ...]:
        if self.virt != "kvm":
            return ("CPUs: QEMU's TCG stands in for KVM",)
        in_tcg = ", ".join(self._in_tcg())
        if not in_tcg:
            return ()
        why = "not all of their vCPUs start under this host's KVM"
        return (f"CPUs of {in_tcg}: QEMU's TCG, {why}",)

    def _in_tcg(self) -> list[str]:
        path = self.folder / IN_TCG
        return path.read_text().splitlines() if path.exists() else []

    # Its guests

    def start(self, guest: Guest) -> Guest:
        """Define a guest and start it; both or neither."""
        first = guest.virt or self.virt
        self._start(guest, first)
        if guest.kind == "spin" and not self._spins(guest):
            self.remove(guest)
            if first != "kvm":
                raise LabError(f"a vCPU of {guest.name} does not spin")
            self._note_in_tcg(guest)
            self.start(dataclasses.replace(guest, virt="qemu"))
        return guest

    def _start(self, guest: Guest, virt: str) -> None:
        boot_folder = self.folder / "boot"
        xml = guest.xml(virt, boot=boot_folder, flavor=self.flavor)
        domain = self.connection.defineXML(xml)
        try:
            self._create(guest, domain)
        except libvirt.libvirtError:
            domain.undefine()
            raise

    def _spins(self, guest: Guest) -> bool:
        vcpus = self.domain(guest).info()[3]
        return spinning.all_spin(self.qemu_pid(guest), vcpus)

    def _note_in_tcg(self, guest: Guest) -> None:
        with (self.folder / IN_TCG).open("a") as names:
            names.write(f"{guest.name}\n")

    def start_all(self, guests: Iterable[Guest]) -> list[Guest]:
        """Start guests side by side."""
        self.connection.getLibVersion()  # one connection for all threads
        with ThreadPoolExecutor(STARTERS) as pool:
            return list(pool.map(self.start, guests))

    def destroy(self, guest: Guest) -> None:
        """Switch a guest off; it stays defined, as in Nova's stop."""
        try:
            self.domain(guest).destroy()
        except libvirt.libvirtError as error:
            # It is off already. A libvirtd that is still adopting its guests
            # says so even of one that it has just switched off.
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
                raise

    def remove(self, guest: Guest) -> None:
        """Switch a guest off and forget it."""
        self.destroy(guest)
        self.domain(guest).undefine()

    def reboot(self, guest: Guest) -> None:
        """Off and on again: a new QEMU process."""
        self.destroy(guest)
        self._create(guest, self.domain(guest))

    def qemu_pid(self, guest: Guest) -> int:
        """The PID of the guest's QEMU; never asks libvirtd, that may hang."""
        path = self.run_dir / "qemu" / f"{guest.domain_name}.pid"
        try:
            return int(path.read_text())
        except FileNotFoundError:
            raise LabError(f"{guest.name} does not run") from None

    def domain(self, guest: Guest) -> libvirt.virDomain:
        """The guest in libvirt."""
        return self.connection.lookupByUUIDString(guest.uuid)

    @property
    def connection(self) -> libvirt.virConnect:
        """The lab's own, to its present libvirtd."""
        # A connection does not notice by itself that its libvirtd has died.
        pid = self.libvirtd.pid
        if self._connection is None or pid != self._connected_to:
            self._disconnect()
            self._connection = libvirt.open(self.uri)
            self._connected_to = pid
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
            self._connection = None

    @staticmethod
    def _create(guest: Guest, domain: libvirt.virDomain) -> None:
        paused = guest.kind == "paused"
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED * paused)
