# SPDX-License-Identifier: Apache-2.0
"""The lab on the real libvirtd and the real QEMU of this host."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest
from ceilometer.compute import discovery

from tests.functional.agent import wait_for
from tests.lab import (
    EVENTS,
    Guest,
    Hardware,
    Lab,
    LabError,
    cleaning,
    kvm,
    pmu,
    processes,
    requirements,
    spinning,
)
from tests.lab.ceilometer import configuration
from tests.lab.fixtures import LabFixture
from tests.lab.stolen import stolen

Starter = Callable[[Guest], Guest]
PACKAGE = Path(__file__).parents[2]
OWNER = """
import sys, time
from tests.lab import Guest, Lab
lab = Lab()
lab.up()
lab.start(Guest("orphan", "idle", events=()))
print(lab.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        yield lab


@pytest.fixture
def start(lab: Lab) -> Iterator[Starter]:
    started: list[Guest] = []

    def starter(guest: Guest) -> Guest:
        started.append(lab.start(guest))
        return guest

    yield starter
    for guest in started:
        lab.remove(guest)


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=PACKAGE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def counters(lab: Lab, guest: Guest) -> dict[str, int]:
    answer: dict[str, int] = lab.connection.domainListGetStats(
        [lab.domain(guest)], libvirt.VIR_DOMAIN_STATS_PERF
    )[0][1]
    return answer


def cpu_time(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def growth(lab: Lab, guest: Guest, seconds: float) -> float:
    """Of its task clock, in seconds."""
    before = counters(lab, guest)["perf.task_clock"]
    time.sleep(seconds)
    return (counters(lab, guest)["perf.task_clock"] - before) / 1e9


def wanted(pid: int, *, waits: bool = True) -> dict[str, float]:
    """Seconds that each vCPU was on a CPU, or waited for one."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("CPU "):
            used, waited, _ = (task / "schedstat").read_text().split()
            found[name] = (int(used) + int(waited) * waits) / 1e9
    return found


def settle(pid: int) -> None:
    """Wait until QEMU has nothing to do."""
    busy = True
    while busy:
        before = cpu_time(pid)
        time.sleep(0.2)
        busy = cpu_time(pid) - before > 10_000_000


def use(lab: Lab, guest: Guest, seconds: float) -> None:
    """Wait until a guest has used so much CPU time."""
    pid = lab.qemu_pid(guest)
    enough = cpu_time(pid) + seconds * 1e9
    wait_for(lambda: cpu_time(pid) >= enough, 60, f"{seconds} s of CPU time")


def lab_of(owner: subprocess.Popen[str]) -> tuple[Path, list[int]]:
    """The folder and the processes of the lab that another process owns."""
    assert owner.stdout
    folder = Path(owner.stdout.readline().strip())
    pids = list(processes.members(processes.mark_of(folder / "run")))
    assert len(pids) == 3  # keeper, libvirtd and QEMU
    return folder, pids


def alive(pids: list[int]) -> list[int]:
    # What has died but was not reaped yet has no root.
    return [pid for pid in pids if Path(f"/proc/{pid}/root/run").exists()]


def wait_gone(folder: Path, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while folder.exists():
        assert time.monotonic() < deadline, f"{folder} is still there"
        time.sleep(0.05)


# Guests


@pytest.mark.parametrize("vcpus", [1, 2])
def test_spinning_guest_uses_its_vcpus(
    lab: Lab, start: Starter, vcpus: int
) -> None:
    guest = start(Guest(f"spin-{vcpus}", "spin", vcpus=vcpus))
    pid = lab.qemu_pid(guest)
    used, began, taken = cpu_time(pid), time.monotonic(), stolen()
    counted = growth(lab, guest, 1.5)
    used, passed = cpu_time(pid) - used, time.monotonic() - began
    taken = stolen() - taken
    # The counter sees what the process uses.
    assert 0.9 * used / 1e9 <= counted <= 1.1 * used / 1e9 + taken
    assert counted < passed * vcpus * 1.1


def test_all_vcpus_spin(lab: Lab, start: Starter) -> None:
    guest = start(Guest("smp", "spin", vcpus=2))
    pid = lab.qemu_pid(guest)
    before, began = wanted(pid), time.monotonic()
    time.sleep(1.5)
    after, passed = wanted(pid), time.monotonic() - began
    assert len(before) == 2
    # All the time, were nothing else running here.
    for name in before:
        assert after[name] - before[name] > 0.7 * passed


@pytest.mark.parametrize("virt", [None, "qemu"])
def test_busy_guest_uses_a_fifth(
    lab: Lab, start: Starter, virt: str | None
) -> None:
    guest = start(Guest("busy", "busy", vcpus=2, virt=virt))
    pid = lab.qemu_pid(guest)
    before, began = cpu_time(pid), time.monotonic()
    use(lab, guest, 0.2)
    passed = time.monotonic() - began
    assert cpu_time(pid) - before < 0.5e9 * passed
    used = wanted(pid, waits=False).values()
    first, second = sorted(used, reverse=True)
    assert second < first / 2


def test_vcpu_that_kvm_does_not_start_spins_in_tcg(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it is on some hosts whose KVM emulates most of what it runs."""

    def spins(pid: int, vcpus: int) -> bool:
        command = Path(f"/proc/{pid}/cmdline").read_text()
        return "kvm" not in command.split("-accel\0")[1] and all_spin(
            pid, vcpus
        )

    all_spin = spinning.all_spin
    monkeypatch.setattr(spinning, "all_spin", spins)
    monkeypatch.setattr(Lab, "virt", "kvm")
    with Lab() as lab:
        if not kvm.usable():  # TCG passes for it
            monkeypatch.setattr(Lab, "virt", "qemu")
        lab.start(Guest("smp", "spin", vcpus=2, events=()))
        assert "type='qemu'" in lab.domain(Guest("smp")).XMLDesc()
        assert len(wanted(lab.qemu_pid(Guest("smp")))) == 2
        (line,) = lab.emulates
        assert "TCG" in line
        assert ("smp" in line) == kvm.usable()
        assert Lab.at(lab.folder).emulates == lab.emulates


def test_vcpu_that_spins_nowhere_is_noticed_within_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spins(pid: int, vcpus: int) -> bool:
        # It begins with some work, for which it waits on a busy host.
        settle(pid)
        return all_spin(pid, vcpus)

    all_spin = spinning.all_spin
    monkeypatch.setattr(spinning, "all_spin", spins)
    with Lab() as lab:
        idle = lab.folder / "boot" / "idle"
        (lab.folder / "boot" / "spin").write_bytes(idle.read_bytes())
        guest = Guest("lazy", "spin", events=(), virt="qemu")
        with pytest.raises(LabError, match="vCPU of lazy does not spin"):
            lab.start(guest)
        assert lab.connection.listAllDomains() == []


def test_idle_guest_uses_no_cpu(lab: Lab, start: Starter) -> None:
    guest = start(Guest("idle", "idle"))
    settle(lab.qemu_pid(guest))
    assert growth(lab, guest, 1) < 0.05


def test_paused_guest_uses_no_cpu(lab: Lab, start: Starter) -> None:
    guest = start(Guest("paused", "paused"))
    assert lab.domain(guest).state()[0] == libvirt.VIR_DOMAIN_PAUSED
    settle(lab.qemu_pid(guest))
    assert growth(lab, guest, 1) < 0.05


def test_all_events_are_there(lab: Lab, start: Starter) -> None:
    guest = start(Guest("all", "busy"))
    use(lab, guest, 0.05)
    found = counters(lab, guest)
    assert set(found) == {f"perf.{event}" for event in EVENTS}
    for event in pmu.HARDWARE_EVENTS:
        assert found[f"perf.{event}"] > 0


def test_each_hardware_event_has_a_rate_of_its_own(
    lab: Lab, start: Starter
) -> None:
    assert len(set(pmu.RATES)) == len(pmu.RATES)
    guest = start(Guest("rates", "spin"))
    use(lab, guest, 0.3)
    # While the vCPU runs one event is read later than the other.
    lab.domain(guest).suspend()
    settle(lab.qemu_pid(guest))
    found = counters(lab, guest)
    clock = found["perf.task_clock"]
    assert clock > 0.1e9
    rates = pmu.made_up()
    assert {e: found[f"perf.{e}"] * 1000 / clock for e in rates} == {
        e: pytest.approx(rate, rel=0.005) for e, rate in rates.items()
    }


def test_made_up_events_only_grow(lab: Lab, start: Starter) -> None:
    guest = start(Guest("growing", "spin"))
    seen = [counters(lab, guest) for _ in range(200)]
    use(lab, guest, 0.05)
    seen.append(counters(lab, guest))
    rates = pmu.made_up()
    for event in pmu.HARDWARE_EVENTS:
        values = [each[f"perf.{event}"] for each in seen]
        assert values == sorted(values)
        assert values[0] < values[-1]
        # Some whole number of ns at its rate, rounded down.
        rate = rates.get(event, 1)
        assert all(-value * 1000 % rate < 1000 for value in values)


def test_cache_monitoring_events_can_be_asked_for(
    lab: Lab, start: Starter
) -> None:
    guest = start(Guest("rdt", "busy", events=("cmt", "mbmt", "mbml")))
    use(lab, guest, 0.05)
    found = counters(lab, guest)
    assert set(found) == {"perf.cmt", "perf.mbmt", "perf.mbml"}
    assert all(found.values())


def test_fake_pmu_stays_in_libvirtd(lab: Lab, start: Starter) -> None:
    def maps(pid: int) -> str:
        return Path(f"/proc/{pid}/maps").read_text()

    guest = start(Guest("clean", "paused"))
    assert "fakepmu" in maps(lab.libvirtd.pid)
    assert "fakepmu" not in maps(lab.qemu_pid(guest))


def test_says_what_it_emulates(lab: Lab, start: Starter) -> None:
    clock = any("software clock" in line for line in lab.emulates[:1])
    assert clock == bool(pmu.missing_events())
    guest = start(Guest("honest", "paused"))
    assert "lab.emulated-pmu" in lab.domain(guest).XMLDesc()


def test_reboot_is_a_new_process(lab: Lab, start: Starter) -> None:
    guest = start(Guest("phoenix", "paused"))
    before = lab.qemu_pid(guest)
    lab.reboot(guest)
    assert lab.qemu_pid(guest) != before


def test_destroyed_guest_stays_defined(lab: Lab, start: Starter) -> None:
    guest = start(Guest("off", "paused"))
    lab.destroy(guest)
    assert lab.domain(guest).state()[0] == libvirt.VIR_DOMAIN_SHUTOFF
    with pytest.raises(LabError, match="off does not run"):
        lab.qemu_pid(guest)


def test_ceilometer_discovers_the_guests(lab: Lab, start: Starter) -> None:
    guest = start(Guest("found", "paused", extra_specs={"hw:pmu": "true"}))
    start(Guest("foreign", "paused", metadata=False))
    conf = configuration()
    conf.set_override("libvirt_uri", lab.uri_ro)
    (instance,) = discovery.InstanceDiscovery(conf).discover(None)
    assert (instance.id, instance.name) == (guest.uuid, "found")
    assert instance.flavor["id"] == guest.flavor_id
    assert instance.flavor["name"].startswith("lab.")
    assert instance.flavor["extra_specs"] == {"hw:pmu": "true"}
    assert instance.image_meta["disk_format"] == "raw"


# libvirtd


def test_guests_survive_a_crash_of_libvirtd(lab: Lab, start: Starter) -> None:
    guest = start(Guest("survivor", "idle"))
    qemu, libvirtd = lab.qemu_pid(guest), lab.libvirtd.pid
    lab.libvirtd.kill(signal.SIGKILL)
    assert lab.libvirtd.state == "not running"
    lab.libvirtd.start()
    assert lab.libvirtd.pid != libvirtd
    assert lab.qemu_pid(guest) == qemu
    assert lab.domain(guest).state()[0] == libvirt.VIR_DOMAIN_RUNNING


def test_libvirtd_restarts(lab: Lab) -> None:
    before = lab.libvirtd.pid
    lab.libvirtd.restart()
    assert lab.libvirtd.pid != before
    assert lab.connection.getLibVersion() > 0


def test_libvirtd_hangs_and_comes_back(lab: Lab) -> None:
    lab.libvirtd.kill(signal.SIGSTOP)
    assert lab.libvirtd.state == "stopped"
    lab.libvirtd.kill(signal.SIGCONT)
    assert lab.connection.getLibVersion() > 0


def test_everybody_may_read_and_root_may_write(lab: Lab) -> None:
    def virsh(uri: str) -> int:
        command = ["setpriv", "--reuid=65534", "--regid=65534"]
        command += ["--clear-groups", "virsh", "-c", uri, "list"]
        return subprocess.run(command, capture_output=True).returncode

    assert virsh(lab.uri_ro) == 0
    assert virsh(lab.uri) != 0


# Without the fake PMU


def test_hardware_event_is_what_the_host_makes_of_it() -> None:
    with Lab() as plain:
        soft = plain.start(Guest("soft", "paused", events=pmu.SOFTWARE_EVENTS))
        assert "lab.tiny" in plain.domain(soft).XMLDesc()
        hard = Guest("hard", "paused", events=("cpu_cycles",))
        if pmu.real_pmu():
            plain.start(hard)
        else:
            with pytest.raises(libvirt.libvirtError, match="cpu_cycles"):
                plain.start(hard)
            with pytest.raises(libvirt.libvirtError, match="not found"):
                plain.domain(hard)
        assert not any("PMU" in line for line in plain.emulates)


# The end


def test_nothing_is_left(lab: Lab) -> None:
    fixture = LabFixture()
    fixture.setUp()
    other = fixture.lab
    guest = other.start(Guest("mortal", "busy", events=()))
    pids = [other.qemu_pid(guest), other.libvirtd.pid]
    folder = other.folder
    fixture.cleanUp()
    assert not folder.exists()
    assert not alive(pids)
    other.down()
    # The lab next to it does not even notice.
    assert lab.connection.getLibVersion() > 0
    assert cleaning.keeper_pid(lab.folder)


def test_ends_while_libvirtd_and_qemu_are_stopped() -> None:
    with Lab() as hung:
        guest = hung.start(Guest("hung", "idle", events=()))
        folder = hung.folder
        os.kill(hung.qemu_pid(guest), signal.SIGSTOP)
        hung.libvirtd.kill(signal.SIGSTOP)
    assert not folder.exists()


def test_ends_with_an_exception() -> None:
    doomed = Lab()
    with pytest.raises(LabError, match="ghost does not run"), doomed:
        doomed.qemu_pid(Guest("ghost"))
    assert not doomed.folder.exists()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_ends_with_its_owner(
    owner: subprocess.Popen[str], signum: int, lab: Lab
) -> None:
    folder, pids = lab_of(owner)
    owner.send_signal(signum)
    wait_gone(folder)
    owner.wait()
    time.sleep(0.5)  # the keeper itself goes last
    assert not alive(pids)
    assert lab.connection.getLibVersion() > 0


def test_next_lab_clears_what_a_killed_keeper_left(
    owner: subprocess.Popen[str],
) -> None:
    folder, pids = lab_of(owner)
    keeper = cleaning.keeper_pid(folder)
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    assert processes.wait_gone(keeper, processes.mark_of(folder / "run"), 5)
    owner.kill()
    owner.wait()
    assert len(alive(pids)) == 2
    with Lab():
        assert not folder.exists()
        assert not alive(pids)


def test_others_processes_are_not_the_labs(lab: Lab) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        mark = processes.mark_of(lab.run_dir)
        assert not processes.send(bystander.pid, signal.SIGKILL, mark)
        assert bystander.poll() is None
        bystander.kill()


def test_link_to_the_host_claims_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("/run/libvirt")
    mark = processes.mark_of(tmp_path / "run")
    assert not list(processes.members(mark))


# For people


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.lab", *arguments],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_command_line(tmp_path: Path) -> None:
    folder = Path(f"/tmp/lab-cli-{os.getpid()}")
    where = ("--folder", str(folder))
    try:
        up = cli("up", "--guests", "3", "--fake-pmu", *where)
        assert (up.returncode, up.stderr) == (0, "")
        status = cli("status", *where)
        assert status.stdout == up.stdout
        for word in ("running", "paused", "virsh -c", "software clock"):
            assert word in status.stdout
        again = cli("up", *where)
        assert again.returncode == 2
        assert "already" in again.stderr
    finally:
        down = cli("down", *where)
    assert (down.returncode, down.stdout) == (0, "the lab is down\n")
    assert not folder.exists()
    assert cli("down", *where).stdout == f"no lab in {folder}\n"
    status = cli("status", *where)
    assert status.returncode == 2
    assert status.stderr == f"lab.sh: no lab is up in {folder}\n"


def test_lab_that_did_not_come_up_takes_nothing_down(
    lab: Lab, tmp_path: Path
) -> None:
    for folder in (lab.folder, tmp_path):
        intruder = Lab(folder=folder)
        with pytest.raises(LabError, match=str(folder)):
            intruder.up()
        intruder.down()
        assert folder.exists()
    assert lab.connection.getLibVersion() > 0


def test_lab_goes_up_again() -> None:
    again = Lab()
    for _ in range(2):
        with again:
            assert again.connection.getLibVersion() > 0
        assert not again.folder.exists()


def test_emulated_cpu(lab: Lab, start: Starter) -> None:
    guest = start(Guest("tcg", "spin", vcpus=2, virt="qemu"))
    pid = lab.qemu_pid(guest)
    before, began = wanted(pid), time.monotonic()
    assert growth(lab, guest, 1) > 0
    after, passed = wanted(pid), time.monotonic() - began
    assert all(after[cpu] - before[cpu] > 0.7 * passed for cpu in before)


def test_command_line_needs_root() -> None:
    code = (
        "import os, sys; from tests.lab import cli; os.setuid(65534);"
        "sys.exit(cli.main(['status']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "needs root" in done.stderr


def test_command_line_leaves_other_folders_alone(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("")
    up = cli("up", "--folder", str(tmp_path))
    assert up.returncode == 2
    assert up.stderr.count("\n") == 1
    assert cli("down", "--folder", str(tmp_path)).returncode == 0
    assert kept.exists()


def test_command_line_names_missing_packages(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.lab import cli, requirements;"
        f"requirements.PATH = {str(tmp_path)!r}; sys.exit(cli.main(['up']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("lab.sh: libvirtd is missing: apt install")
    assert done.stderr.count("\n") == 1


def test_no_fuse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    monkeypatch.setattr(requirements, "FUSE_DEVICE", device)
    with pytest.raises(LabError, match=f"^{device} is missing: modprobe fuse"):
        Lab(resctrl=Hardware()).up()
