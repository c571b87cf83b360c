# SPDX-License-Identifier: Apache-2.0
"""The installed command on the real libvirtd, QEMU and kernel of this host.

Nothing is made up here: without ``fake_pmu`` the lab has the PMU that its
host has, and what can work is what the probe says.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host.connection import Connection
from ceilometer_perf.reading import SourceUnavailableError
from tests.functional.agent import wait_for
from tests.functional.companion import (
    COMMAND,
    apply,
    define,
    is_of_xml,
    on,
    run,
    wheres,
)
from tests.lab import Guest, Lab
from tests.lab.guests import EVENTS

ALL_EVENTS = (*EVENTS, "cmt", "mbmt", "mbml")

CAP_SYS_RESOURCE = 24
#: Two CPUs of this host, or the one that it has.
FIRST, *_, LAST = [*(cpus := sorted(os.sched_getaffinity(0))), cpus[-1]]
PINS = (
    f"<cputune><vcpupin vcpu='0' cpuset='{FIRST}'/>"
    f"<vcpupin vcpu='1' cpuset='{LAST}'/></cputune>"
)
REALTIME = {
    "hw:cpu_realtime": "yes",
    "hw:cpu_policy": "dedicated",
    "hw:cpu_realtime_mask": "^0",
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def made(lab: Lab) -> Iterator[list[Guest]]:
    """The guests of a test; they are gone after it."""
    guests: list[Guest] = []
    yield guests
    for guest in guests:
        lab.remove(guest)


def start(lab: Lab, made: list[Guest], guest: Guest) -> Guest:
    made.append(lab.start(guest))
    return guest


def counters(lab: Lab, guest: Guest) -> dict[str, int]:
    answer: dict[str, int] = lab.connection.domainListGetStats(
        [lab.domain(guest)], libvirt.VIR_DOMAIN_STATS_PERF
    )[0][1]
    return answer


def cpu_seconds(lab: Lab, guest: Guest) -> float:
    tasks = Path(f"/proc/{lab.qemu_pid(guest)}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def events_in(lab: Lab, guest: Guest) -> list[str]:
    text = lab.domain(guest).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    found = etree.fromstring(text).iterfind("perf/event[@enabled='yes']")
    return [event.get("name", "") for event in found]


def probed(lab: Lab) -> dict[str, Any]:
    ran = run("host", "probe", "-f", "json", "--connect", lab.uri)
    assert (ran.code, ran.err) == (0, "")
    answer: dict[str, Any] = json.loads(ran.out)
    return answer


# The host


def test_a_guest_with_the_safe_list_boots(
    lab: Lab, made: list[Guest], tmp_path: Path
) -> None:
    ran = run("host", "probe", "--nova-conf", "--connect", lab.uri_ro)
    assert (ran.code, ran.err) == (0, "")
    path = tmp_path / "nova.conf"
    path.write_text(ran.out)
    safe = nova_conf.read(NovaFiles((path,))).perf_events
    assert "task_clock" in safe
    guest = start(lab, made, Guest("safe", "paused", events=safe))
    assert set(counters(lab, guest)) == {f"perf.{event}" for event in safe}
    left_out = "".join(line for line in ran.out.splitlines() if "#  " in line)
    for event in set(ALL_EVENTS) - set(safe):
        assert event in re.split(r"[#, ]+", left_out)


def test_libvirt_agrees_on_each_event(lab: Lab, made: list[Guest]) -> None:
    """One guest per event: it starts exactly if the probe says so."""
    rows = probed(lab)["events"]
    assert {row["event"] for row in rows} == set(ALL_EVENTS)
    refused = {}
    for row in rows:
        guest = Guest(f"one-{row['event']}", "paused", events=(row["event"],))
        try:
            start(lab, made, guest)
        except libvirt.libvirtError as error:
            refused[row["event"]] = str(error)
    assert set(refused) == {r["event"] for r in rows if not r["works"]}
    for event, reason in refused.items():
        assert f"host cpu perf event for {event}" in reason
    # Whatever the host, its kernel or its CPU lacks something.
    assert refused


def test_versions_are_those_of_the_lab(lab: Lab) -> None:
    number = lab.connection.getLibVersion()
    text = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    shown = probed(lab)
    assert shown["libvirt"]["daemon"] == text
    assert shown["kernel"] == os.uname().release
    assert shown["root"] is True


def test_a_libvirtd_that_hangs_is_a_line(lab: Lab) -> None:
    lab.libvirtd.kill(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            probing = pool.submit(probed, lab)
            ran = run("guest", "check", *on(lab, Guest("none")))
            shown = probing.result()
    finally:
        lab.libvirtd.kill(signal.SIGCONT)
    assert "no answer within" in shown["libvirt"]["error"]
    assert ran.code == 2
    assert ran.err.startswith("ceilometer-perf: error: libvirt at")
    assert len(ran.err.splitlines()) == 1


def test_a_libvirtd_that_hangs_in_a_call_is_left_alone(lab: Lab) -> None:
    began = time.monotonic()
    try:
        with pytest.raises(SourceUnavailableError, match="within 4 s"):
            hang_in_a_call(lab)
        assert time.monotonic() - began < 8
    finally:
        lab.libvirtd.kill(signal.SIGCONT)


def hang_in_a_call(lab: Lab) -> None:
    with Connection(lab.uri, 4) as connection:
        connection.call(lambda session: session.version)
        lab.libvirtd.kill(signal.SIGSTOP)
        connection.call(lambda session: session.conn.getLibVersion())


# The guest


@pytest.mark.parametrize("switch", ["on", "off"])
def test_a_pmu_is_accepted_and_starts(
    lab: Lab, made: list[Guest], switch: str
) -> None:
    specs = {"hw:pmu": switch}
    guest = Guest(f"pmu-{switch}", "paused", events=(), extra_specs=specs)
    start(lab, made, guest)
    assert f"<pmu state='{switch}'/>" in apply(lab, guest)
    lab.reboot(guest)
    command = Path(f"/proc/{lab.qemu_pid(guest)}/cmdline").read_text()
    assert f"pmu={switch}" in command


def test_events_of_nova_conf_count_after_a_reboot(
    lab: Lab, made: list[Guest], tmp_path: Path
) -> None:
    path = tmp_path / "nova.conf"
    path.write_text(
        run("host", "probe", "--nova-conf", "--connect", lab.uri).out
    )
    guest = start(lab, made, Guest("late", "spin", events=()))
    lab.domain(guest).suspend()
    apply(lab, guest, "--nova-conf", path)
    assert counters(lab, guest) == {}
    lab.reboot(guest)
    assert {f"perf.{e}" for e in events_in(lab, guest)} == set(
        counters(lab, guest)
    )
    counted(lab, guest, lambda seen, used: seen > 0.8 * used)


def may_raise_limits() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return bool(effective >> CAP_SYS_RESOURCE & 1)


def test_a_realtime_guest(lab: Lab, made: list[Guest]) -> None:
    guest = Guest(
        "rt", "idle", vcpus=2, events=(), extra_specs=REALTIME, extra=(PINS,)
    )
    text = apply(lab, start(lab, made, guest))
    assert "<locked/>" in text
    # As it runs, it is none yet.
    pid = lab.qemu_pid(guest)
    found = wheres(lab, guest)
    assert f"/proc/{pid}/status" in found
    assert any(where.startswith(f"/proc/{pid}/task/") for where in found)
    if not may_raise_limits():
        # Root of this host may lock no memory for others: libvirt says so,
        # and the rest is tried without.
        with pytest.raises(libvirt.libvirtError, match="locked memory"):
            lab.reboot(guest)
        define(lab, text.replace("<locked/>", ""))
        assert [w for w in wheres(lab, guest) if is_of_xml(w)] == [
            "/domain/memoryBacking/locked"
        ]
    lab.reboot(guest)
    pid = lab.qemu_pid(guest)
    rows = json.loads(run("guest", "check", *on(lab, guest), "-f", "json").out)
    # KVM's own thread is where the vCPU was that ran first.
    own = [
        row["where"]
        for row in rows
        if str(pid) in row["where"] and "kvm-nx-lpage" not in row["what"]
    ]
    assert own == [f"/proc/{pid}/status"] * (not may_raise_limits())
    threads = {
        (task / "comm").read_text().strip(): int(task.name)
        for task in Path(f"/proc/{pid}/task").iterdir()
    }
    realtime, keeper = threads["CPU 1/KVM"], threads["CPU 0/KVM"]
    assert os.sched_getscheduler(realtime) == os.SCHED_FIFO
    assert os.sched_getparam(realtime).sched_priority == 1
    assert os.sched_getscheduler(keeper) == os.SCHED_OTHER
    assert os.sched_getaffinity(realtime) == {LAST}
    assert os.sched_getaffinity(pid) == {FIRST}


def test_check_knows_a_flavor_without_its_pins(
    lab: Lab, made: list[Guest]
) -> None:
    guest = Guest(
        "no-pins", "paused", vcpus=2, events=(), extra_specs=REALTIME
    )
    start(lab, made, guest)
    ran = run("guest", "check", *on(lab, guest), "-f", "json")
    assert ran.code == 1
    assert any("no <vcpupin>" in row["what"] for row in json.loads(ran.out))
    assert run("guest", "apply", *on(lab, guest)).code == 2


# Enabling


def counted(lab: Lab, guest: Guest, judged: Any) -> None:
    """Wait until a guest has used CPU time; is it in its counter?"""
    used = cpu_seconds(lab, guest)
    seen = counters(lab, guest)["perf.task_clock"]
    wait_for(lambda: cpu_seconds(lab, guest) > used + 1, 30, "a second of CPU")
    used = cpu_seconds(lab, guest) - used
    seen = counters(lab, guest)["perf.task_clock"] - seen
    assert judged(seen / 1e9, used)


def test_enable_counts_from_the_next_boot(lab: Lab, made: list[Guest]) -> None:
    guest = start(lab, made, Guest("enable", "spin", events=()))
    lab.domain(guest).suspend()
    dry = run("guest", "enable", "task_clock", *on(lab, guest), "--dry-run")
    assert (dry.code, events_in(lab, guest)) == (0, [])
    words = ("task_clock", "nope", "-f", "value")
    ran = run("guest", "enable", *words, *on(lab, guest))
    assert ran.code == 1
    assert "refused: libvirt knows no event of that name" in ran.out
    assert events_in(lab, guest) == ["task_clock"]
    assert counters(lab, guest) == {}
    lab.reboot(guest)
    counted(lab, guest, lambda seen, used: seen > 0.8 * used)


def test_live_is_a_dead_counter(lab: Lab, made: list[Guest]) -> None:
    """It misses the vCPUs that run: that is why --live warns."""
    guest = start(lab, made, Guest("live", "spin", events=()))
    # QEMU's main thread is at rest by now.
    wait_for(lambda: cpu_seconds(lab, guest) > 1, 30, "a guest that spins")
    lab.domain(guest).suspend()
    ran = run("guest", "enable", "task_clock", *on(lab, guest), "--live")
    assert ran.code == 0
    assert "not the running vCPUs" in ran.err
    assert events_in(lab, guest) == ["task_clock"]
    lab.domain(guest).resume()
    counted(lab, guest, lambda seen, used: seen < 0.05 < 1 < used)
    lab.reboot(guest)
    counted(lab, guest, lambda seen, used: seen > 0.8 * used)


def test_live_leaves_out_what_would_keep_it_from_booting(
    lab: Lab, made: list[Guest]
) -> None:
    rows = probed(lab)["events"]
    missing = next(row["event"] for row in rows if row["works"] is False)
    guest = start(lab, made, Guest("unsafe", "paused", events=()))
    ran = run("guest", "enable", missing, *on(lab, guest), "--live")
    assert ran.code == 1
    assert events_in(lab, guest) == []
    # Into the definition alone libvirt takes it, and then refuses to start.
    ran = run("guest", "enable", missing, *on(lab, guest))
    assert ran.code == 0
    assert f"{missing} does not work on this host" in ran.err
    with pytest.raises(libvirt.libvirtError, match=missing):
        lab.reboot(guest)


def test_enable_everywhere(lab: Lab, made: list[Guest]) -> None:
    guests = [Guest(f"all-{n}", "paused", events=()) for n in (1, 2)]
    for guest in guests:
        start(lab, made, guest)
    ran = run("guest", "enable", "cpu_clock", "--all", "--connect", lab.uri)
    assert ran.code == 0
    assert {tuple(events_in(lab, g)) for g in guests} == {("cpu_clock",)}


# Bad input


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--instance", "00000000-0000-0000-0000-000000000000"),
        ("check", "--instance", "not-a-uuid"),
        ("enable", "cpu_clock", "--instance", "not-a-uuid"),
        ("check", "--xml", "/no/such/file", "--flavor", "hw:pmu=on"),
        ("check", "--xml", "/proc/self/exe", "--flavor", "hw:pmu=on"),
        ("check", "--xml", "/proc/self/mem", "--flavor", "hw:pmu=on"),
        ("resolve", "--vcpus", "2", "--nova-conf", "/proc/self/exe"),
        ("resolve", "--vcpus", "2", "--flavor", "hw:pmu"),
    ],
)
def test_bad_input_is_one_line(lab: Lab, words: tuple[str, ...]) -> None:
    where = ("--connect", lab.uri) if "resolve" not in words else ()
    ran = run("guest", *words, *where)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1


def test_without_privilege_enable_says_so(lab: Lab) -> None:
    done = subprocess.run(
        [
            COMMAND, "guest", "enable", "cpu_clock", "--all",
            "--connect", lab.uri,
        ],
        user=65534, group=65534, extra_groups=[], cwd="/",
        env={"HOME": "/nonexistent"}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Permission denied" in done.stderr
