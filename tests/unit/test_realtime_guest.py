# SPDX-License-Identifier: Apache-2.0
"""A realtime guest as it runs, in the /proc of a host that was written down.

Three vCPUs, of which 1 and 2 are realtime on the CPUs 2 and 3.
"""

import functools
import json
import os
import shlex
import textwrap
from pathlib import Path

import pytest

from ceilometer_perf.guest import (
    Finding,
    Realtime,
    Requirements,
    nova_metadata,
    xml,
)
from ceilometer_perf.host import domains, qemus
from ceilometer_perf.host.realtime import running
from ceilometer_perf.host.realtime.running import Running, check
from tests.unit.realtime_hosts import (
    BOUND,
    KERNEL_THREAD,
    Files,
    thread,
    write,
)
from tests.unit.shell import run

PID = 4242
UUID = "0f7367dc-c31d-5a5d-be44-69b157f1ce6e"
FIFO, RR, OTHER = os.SCHED_FIFO, os.SCHED_RR, os.SCHED_OTHER
XML = f"""<domain type='kvm' id='3'>
  <name>instance-00000001</name>
  <uuid>{UUID}</uuid>
  <memory unit='KiB'>65536</memory>
  <memoryBacking><nosharepages/><locked/></memoryBacking>
  <vcpu placement='static'>3</vcpu>
  <cputune>
    <vcpupin vcpu='0' cpuset='1'/>
    <vcpupin vcpu='1' cpuset='2'/>
    <vcpupin vcpu='2' cpuset='3'/>
    <emulatorpin cpuset='1'/>
    <vcpusched vcpus='1' scheduler='fifo' priority='1'/>
    <vcpusched vcpus='2' scheduler='fifo' priority='1'/>
  </cputune>
</domain>
"""
NOT_FIFO = (
    "realtime vCPU {} runs {} with priority {} instead of fifo with priority 1"
)
SHARED = "CPU 2-3 of its realtime vCPUs is used by 1 other thread: {}"
OWN = "CPU {} of its realtime vCPUs may be used by {}"
ASKED = Requirements(
    locked=True, realtime=Realtime(frozenset({1, 2}), frozenset({0}))
)


def vcpu(number: int, cpu: int, allowed: str, policy: int, priority: int) -> (
    dict[str, str]
):  # fmt: skip
    return thread(
        PID, f"CPU {number}/KVM", cpu, allowed, tid=PID + 1 + number,
        policy=policy, priority=priority,
    )  # fmt: skip


def status(locked: int, huge: int = 0) -> dict[str, str]:
    text = f"Name:\tqemu\nVmLck:\t{locked} kB\nHugetlbPages:\t{huge} kB\n"
    return {f"proc/{PID}/status": text}


GOOD: Files = {
    **vcpu(0, 1, "1", OTHER, 0),
    **vcpu(1, 2, "2", FIFO, 1),
    **vcpu(2, 3, "3", FIFO, 1),
    **thread(PID, "IO iothread1", 1, "1", tid=4250),
    **thread(PID, "qemu-kvm", 1, "1"),
    **status(70000),
    **thread(30, "migration/2", 2, "2", flags=KERNEL_THREAD | BOUND),
    **thread(1, "systemd", 0, "0-1"),
    # Interrupts of devices that a guest has.
    "proc/irq/25/effective_affinity_list": "2",
    "proc/irq/25/vfio-msix[0](0000:3b:02.0)/.": "",
}


def findings(
    root: Path, files: Files, text: str = XML, asked: Requirements = ASKED
) -> list[Finding]:
    proc = write(root, {**GOOD, **files}) / "proc"
    guest = Running(PID, xml.parse(text).getroot(), asked, proc)
    return list(check(guest))


def whats(root: Path, files: Files, text: str = XML) -> list[str]:
    return [finding.what for finding in findings(root, files, text)]


def test_nothing_is_wrong(tmp_path: Path) -> None:
    assert findings(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (
            vcpu(1, 2, "2", OTHER, 0),
            NOT_FIFO.format(1, "other", 0),
        ),
        (
            vcpu(2, 3, "3", FIFO, 99),
            NOT_FIFO.format(2, "fifo", 99),
        ),
        (
            vcpu(1, 2, "2", RR, 1),
            NOT_FIFO.format(1, "rr", 1),
        ),
        (
            vcpu(0, 1, "1", FIFO, 1),
            "vCPU 0 runs fifo with priority 1 as if it were realtime",
        ),
        (
            vcpu(2, 3, "0-7", FIFO, 1),
            "realtime vCPU 2 may run on CPU 0-7 instead of 3",
        ),
        (
            thread(PID, "IO iothread1", 1, "0-2", tid=4250),
            OWN.format(2, "1 QEMU thread: IO iothread1"),
        ),
        (
            thread(PID, "worker", 1, "0-7", tid=4260),
            OWN.format("2-3", "1 QEMU thread: worker"),
        ),
        (status(0), "0 of 64 MiB of its memory are locked"),
        (status(65535), "63 of 64 MiB of its memory are locked"),
        (
            thread(2000, "rsyslogd", 3, "0-7"),
            SHARED.format("rsyslogd (2000)"),
        ),
        (  # of another guest
            thread(5000, "CPU 0/KVM", 2, "2", policy=FIFO, priority=1),
            SHARED.format("CPU 0/KVM (5000)"),
        ),
        (
            {"proc/irq/27/smp_affinity_list": "0-7", "proc/irq/27/eth0/.": ""},
            "CPU 2-3 of its realtime vCPUs gets 1 interrupt: 27 (eth0)",
        ),
    ],
)
def test_one_thing_is_wrong(tmp_path: Path, files: Files, what: str) -> None:
    found = findings(tmp_path, files)
    assert [finding.what for finding in found] == [what]
    assert found[0].where.startswith("/proc/")
    assert (tmp_path / found[0].where.lstrip("/")).exists()
    assert found[0].why
    assert found[0].remedy


def test_qemus_threads_are_one_finding(tmp_path: Path) -> None:
    """However many they are: usually one pin is missing."""
    files = {
        **thread(PID, "qemu-kvm", 1, "0-2"),
        **thread(PID, "worker", 1, "0-3", tid=4260),
        **thread(PID, "worker", 1, "0-3", tid=4261),
    }
    (found,) = findings(tmp_path, files)
    text = "3 QEMU threads: qemu-kvm, worker"
    assert found.what == OWN.format("2-3", text)
    assert found.where == f"/proc/{PID}/task/{PID}"


@pytest.mark.parametrize(
    ("parameter", "number"), [("Y", 1), ("N", 0), ("never", 0)]
)
def test_kvms_thread_for_large_pages(
    tmp_path: Path, parameter: str, number: int
) -> None:
    """It sleeps for ever where they are not split."""
    files = {
        "sys/module/kvm/parameters/nx_huge_pages": parameter,
        **thread(PID, "kvm-nx-lpage-re", 2, "2", tid=4270),
    }
    found = findings(tmp_path, files)
    assert [f.what for f in found] == number * [
        OWN.format(2, "1 QEMU thread: kvm-nx-lpage-re")
    ]
    assert all("nx_huge_pages=never" in f.remedy for f in found)


def test_huge_pages_count_as_locked(tmp_path: Path) -> None:
    assert whats(tmp_path, status(1000, 65536)) == []


def test_what_need_not_be_locked_is_not_asked_for(tmp_path: Path) -> None:
    asked = Requirements(realtime=ASKED.realtime)
    assert findings(tmp_path, status(0), XML, asked) == []


def test_an_emulator_with_one_thread(tmp_path: Path) -> None:
    text = XML.replace("type='kvm'", "type='qemu'")
    proc = write(tmp_path, {
        **thread(PID, "ALL CPUs/TCG", 1, "1"), **status(70000),
    }) / "proc"  # fmt: skip
    guest = Running(PID, xml.parse(text).getroot(), ASKED, proc)
    assert [finding.what for finding in check(guest)] == [
        "realtime vCPU 1 has no thread of its own",
        "realtime vCPU 2 has no thread of its own",
    ]


def test_a_vcpu_that_is_not_plugged_in(tmp_path: Path) -> None:
    text = XML.replace(
        "<cputune>",
        "<vcpus><vcpu id='2' enabled='no' hotpluggable='yes'/></vcpus>"
        "<cputune>",
    )
    proc = write(tmp_path, {
        k: v for k, v in GOOD.items() if "/4245/" not in k
    }) / "proc"  # fmt: skip
    guest = Running(PID, xml.parse(text).getroot(), ASKED, proc)
    assert list(check(guest)) == []


def test_without_pins_the_rest_is_checked(tmp_path: Path) -> None:
    text = XML.replace("<vcpupin vcpu='1' cpuset='2'/>", "")
    assert whats(tmp_path, vcpu(1, 2, "0-7", OTHER, 0), text) == [
        NOT_FIFO.format(1, "other", 0)
    ]


def test_a_guest_that_has_ended(tmp_path: Path) -> None:
    guest = Running(PID, xml.parse(XML).getroot(), ASKED, tmp_path)
    assert list(check(guest)) == []


def test_whose_process(tmp_path: Path) -> None:
    lines = {
        "proc/7/cmdline": f"qemu\0-name\0{UUID}\0",
        "proc/8/cmdline": f"qemu\0-uuid\0{UUID}\0",
        "proc/self/cmdline": f"qemu\0-uuid\0{UUID}\0",
    }
    assert qemus.seen(UUID, write(tmp_path, lines) / "proc") == 8
    (tmp_path / "proc/8/cmdline").unlink()
    assert qemus.seen(UUID, tmp_path / "proc") is None


# The command

PAGE = Path(__file__).parents[2] / "doc" / "source" / "realtime-guests.rst"


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        **GOOD,
        **vcpu(1, 2, "2", OTHER, 0),
        **thread(PID, "IO iothread1", 1, "1-3", tid=4250),
        **status(0),
        **thread(2000, "rsyslogd", 3, "0-7"),
        "proc/irq/27/effective_affinity_list": "3",
        "proc/irq/27/eth0-rx-3/.": "",
    }
    proc = write(tmp_path, files) / "proc"
    noted = XML.replace("<vcpu ", f"{METADATA}<vcpu ")
    monkeypatch.setattr(
        domains, "domain_xml", lambda _uri, _uuid, inactive=True: noted
    )
    monkeypatch.setattr(qemus, "seen", lambda _uuid: PID)
    monkeypatch.setattr(
        running, "Running", functools.partial(Running, proc=proc)
    )
    page = textwrap.dedent(
        PAGE.read_text().partition("the\nhost is not isolated:")[2]
    )
    line, _, rest = page.partition("$ ceilometer-perf ")[2].partition("\n")
    output = textwrap.dedent(rest.partition("\n\n")[0])
    ran = run(*shlex.split(line))
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.strip() == output


METADATA = f"""<metadata>
  <nova:instance xmlns:nova="{nova_metadata.NAMESPACE}">
    <nova:flavor name="realtime" id="1">
      <nova:extraSpecs>
        <nova:extraSpec name="hw:cpu_realtime">yes</nova:extraSpec>
        <nova:extraSpec name="hw:cpu_realtime_mask">^0</nova:extraSpec>
        <nova:extraSpec name="hw:cpu_policy">dedicated</nova:extraSpec>
      </nova:extraSpecs>
    </nova:flavor>
    <nova:image uuid="2"><nova:properties/></nova:image>
  </nova:instance>
</metadata>"""
FLAVOR = (
    "--flavor", "hw:cpu_realtime=yes", "hw:cpu_policy=dedicated",
    "hw:cpu_realtime_mask=^0",
)  # fmt: skip


def test_the_definition_and_what_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defined = XML.replace(" id='3'", "")
    texts = {True: defined, False: defined}
    monkeypatch.setattr(
        domains,
        "domain_xml",
        lambda _uri, _uuid, inactive=True: texts[inactive],
    )
    words = ("guest", "check", "--instance", UUID, *FLAVOR)
    ran = run(*words)
    assert (ran.code, ran.out, ran.err) == (0, "no findings\n", "")

    texts[False] = XML
    monkeypatch.setattr(qemus, "seen", lambda _uuid: None)
    ran = run(*words)
    assert (ran.code, ran.out) == (0, "no findings\n")
    assert "only its definition was checked" in ran.err

    # Any process that is no QEMU.
    monkeypatch.setattr(qemus, "seen", lambda _uuid: os.getpid())
    ran = run(*words, "-f", "json")
    assert ran.code == 1
    assert json.loads(ran.out)[0]["what"] == (
        "realtime vCPU 1 has no thread of its own"
    )
    # Only of realtime guests.
    ran = run("guest", "check", "--instance", UUID, "--flavor", "hw:a=b")
    assert (ran.code, ran.out, ran.err) == (0, "no findings\n", "")
