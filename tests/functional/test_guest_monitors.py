# SPDX-License-Identifier: Apache-2.0
"""Monitors that the companion adds, read through the real libvirtd."""

from collections.abc import Iterator

import libvirt
import pytest
from lxml import etree

from ceilometer_perf.host.connection import Session
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.host.stats import monitor_stats
from ceilometer_perf.rdt import libvirt_monitors
from ceilometer_perf.rdt.usage import LOCAL, OCCUPANCY, TOTAL, Usage
from tests.functional.agent import wait_for
from tests.functional.companion import apply, on, run
from tests.lab import Guest, Hardware, Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(resctrl=Hardware(settling=0.1)) as lab:
        yield lab


CACHE = """
<cputune>
  <cachetune vcpus='0-1'>
    <cache id='0' level='3' type='both' size='{}' unit='B'/>
    <monitor level='3' vcpus='1'/>
  </cachetune>
</cputune>
"""
BANDWIDTH = """
<cputune>
  <memorytune vcpus='1-3'><node id='0' bandwidth='50'/></memorytune>
</cputune>
"""
PARTS = """
<cputune>
  <cachetune vcpus='0-3'>
    <monitor level='3' vcpus='1'/><monitor level='3' vcpus='2'/>
  </cachetune>
</cputune>
"""


@pytest.mark.parametrize(
    ("name", "tune"),
    [
        ("plain", ()),
        ("bandwidth", (BANDWIDTH,)),
        ("parts", (PARTS,)),
    ],
)
def test_libvirt_reports_all_vcpus(
    lab: Lab, name: str, tune: tuple[str, ...]
) -> None:
    reports_all_vcpus(lab, Guest(name, "spin", 4, events=(), extra=tune))


@pytest.mark.parametrize(
    ("mib", "ways"), [(24, 12), (32, 16), (36, 11), (300, 20)]
)
def test_cache_of_any_size(mib: int, ways: int) -> None:
    """What libvirt gives away in ways depends on nothing of this host."""
    hardware = Hardware(l3_bytes=mib << 20, ways=ways, settling=0.1)
    with Lab(resctrl=hardware) as lab:
        # Otherwise the default group has the whole cache, and none is left.
        (lab.resctrl_path / "schemata").write_text("L3:0=f\n")
        tune = CACHE.format(6 * hardware.way_bytes)
        reports_all_vcpus(lab, Guest("cache", "spin", 4, (), extra=(tune,)))
        capabilities = etree.fromstring(lab.connection.getCapabilities())
        (bank,) = capabilities.iterfind("host/cache/bank[@level='3']")
        assert bank.get("unit") in {"KiB", "MiB"}
        unit = 1 << (10 if bank.get("unit") == "KiB" else 20)
        assert int(bank.attrib["size"]) * unit == hardware.l3_bytes


def reports_all_vcpus(lab: Lab, guest: Guest) -> None:
    lab.start(guest)
    domain = lab.domain(guest)
    domain.suspend()  # its time is nobody's matter yet
    apply(lab, guest, "--monitors")
    lab.reboot(guest)
    before = used(domain)
    first = usage(lab, guest)
    wait_for(lambda: used(domain) - before >= 1e9, 60, "a second of CPU time")
    second = usage(lab, guest)
    grown = (second.sum(TOTAL) or 0) - (first.sum(TOTAL) or 0)
    # One byte for each nanosecond of the vCPUs.
    assert grown == pytest.approx(used(domain) - before, rel=0.3)
    assert second.sum(OCCUPANCY)
    assert second.sum(LOCAL)
    assert set(second.banks[OCCUPANCY]) == {0}
    lab.remove(guest)


def usage(lab: Lab, guest: Guest) -> Usage:
    domain = lab.domain(guest)
    stats = monitor_stats(Session(lab.connection, (9, 0, 0)), [domain])
    found = libvirt_monitors.usage(domain.ID(), stats[guest.uuid])
    assert found is not None
    return found


def used(domain: libvirt.virDomain) -> int:
    """CPU time of the vCPUs, in ns."""
    return sum(vcpu[2] for vcpu in domain.vcpus()[0])


def test_tcg_guest_is_refused(lab: Lab) -> None:
    guest = lab.start(Guest("tcg", "paused", virt="qemu", events=()))
    ran = run("guest", "apply", *on(lab, guest), "--monitors")
    assert (ran.code, ran.out) == (2, "")
    assert "type is 'qemu'" in ran.err
    with pytest.raises(libvirt.libvirtError, match="only supported for KVM"):
        lab.start(Guest("tcg-2", "paused", 4, virt="qemu", extra=(PARTS,)))
    lab.remove(guest)


def test_guest_does_not_start_without_an_rmid(lab: Lab) -> None:
    """As the documentation warns."""
    in_use = Resctrl(lab.resctrl_path).in_use()
    lab.change_resctrl(num_rmids=in_use)
    with pytest.raises(libvirt.libvirtError, match="No space left"):
        lab.start(Guest("none", "paused", 4, events=(), extra=(PARTS,)))
    lab.change_resctrl(num_rmids=64)
