# SPDX-License-Identifier: Apache-2.0
"""The host commands as a shell sees them."""

import json

import pytest

from ceilometer_perf.host import probe
from ceilometer_perf.host.probe import Probed, virt
from tests.unit.probe_cases import HARDWARE, SOFTWARE, FakeKernel, probed
from tests.unit.shell import run

NOWHERE = "qemu+unix:///system?socket=/no/such/socket"


def use(monkeypatch: pytest.MonkeyPatch, report: Probed) -> None:
    monkeypatch.setattr(probe, "ask", lambda _uri: report)


def test_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, probed("amd", FakeKernel(counters=6)))
    ran = run("host", "probe")
    assert (ran.code, ran.err) == (0, "")
    assert "0: 32 MiB, CPUs 0-7,16-23" in ran.out
    assert "rmids: 4 of 256 in use" in ran.out
    assert "l3_bytes            | 67108864" in ran.out
    assert "perf     no   the kernel has no PMU intel_cqm" in ran.out
    assert "(use one of the others)" in ran.out
    assert "resctrl  yes" in ran.out
    assert "cpu_cycles               yes" in ran.out
    assert "bus_cycles               yes  works, but not together" in ran.out
    assert "cmt                      no   Linux dropped" in ran.out


def test_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    use(
        monkeypatch,
        probed("locked", FakeKernel(forbids_all=13), is_root=False),
    )
    shown = json.loads(run("host", "probe", "-f", "json").out)
    assert shown["kernel"] == "6.1.0-28-amd64"
    assert shown["perf_event_paranoid"] == 4
    assert shown["root"] is False
    assert shown["libvirt"] == {
        "uri": "qemu:///system",
        "library": "9.0.0",
        "daemon": None,
        "error": "no libvirtd",
    }
    assert shown["hardware_counters"] is None
    rows = {row["event"]: row for row in shown["events"]}
    assert set(rows) == {*HARDWARE, *SOFTWARE, "cmt", "mbmt", "mbml"}
    assert rows["cpu_clock"]["works"] is None
    assert rows["cmt"]["works"] is False
    assert shown["resctrl"]["in_use"] == 0
    perf, libvirt, resctrl = shown["rdt_sources"]
    assert (perf["works"], libvirt["works"]) == (False, None)
    assert resctrl == {
        "source": "resctrl",
        "works": False,
        "reason": "resctrl is not mounted",
        "remedy": "mount -t resctrl resctrl /sys/fs/resctrl",
    }


def test_nova_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, probed("vm", FakeKernel((1,))))
    lines = run("host", "probe", "--nova-conf").out.splitlines()
    assert lines[0] == "[libvirt]"
    assert lines[-1] == f"enabled_perf_events = {', '.join(SOFTWARE)}"
    assert sum(line.startswith("# Left out (") for line in lines) == 2
    assert "#   cmt, mbmt, mbml" in lines
    shown = json.loads(run("host", "probe", "--nova-conf", "-f", "json").out)
    assert shown["enabled_perf_events"] == list(SOFTWARE)
    assert set(shown["left_out"]) == {*HARDWARE, "cmt", "mbmt", "mbml"}


def test_libvirt_out_of_reach_is_a_line() -> None:
    ran = run("host", "probe", "--connect", NOWHERE, "-f", "json")
    assert ran.code == 0
    error = json.loads(ran.out)["libvirt"]["error"]
    assert NOWHERE in error
    assert "\n" not in error


def test_a_libvirt_that_answers() -> None:
    found = virt.ask("test:///default")
    assert found.error is None
    assert found.daemon == found.library


def test_unknown_words() -> None:
    assert run("host", "probe", "--nope").code == 2


def test_another_hosts_libvirt_is_a_note() -> None:
    remote = "qemu+tcp://127.0.0.1:1/system"
    ran = run("host", "probe", "--connect", remote, "-f", "json")
    assert ran.code == 0
    assert "another host's" in json.loads(ran.out)["notes"][0]


@pytest.mark.parametrize("uri", ["x", "qemu://[", "qemu:system"])
def test_a_uri_that_is_none(uri: str) -> None:
    probe = run("host", "probe", "--connect", uri, "-f", "json")
    assert probe.code == 0
    assert json.loads(probe.out)["libvirt"]["error"].startswith("libvirt at")
    enable = run("guest", "enable", "cpu_clock", "--all", "--connect", uri)
    assert enable.code == 2
    assert enable.err.startswith("ceilometer-perf: error: libvirt at")
    assert len(enable.err.splitlines()) == 1
