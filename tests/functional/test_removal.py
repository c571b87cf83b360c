# SPDX-License-Identifier: Apache-2.0
"""What the installation page says of removing it happens so."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from lxml import etree
from nova.virt.libvirt import migration

from ceilometer_perf.host.resctrl import PREFIX, Resctrl
from tests.lab import Guest, Hardware, Lab

PAGE = Path(__file__).parents[2] / "doc" / "source" / "install.rst"
TEXT = " ".join(PAGE.read_text().split())


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True, resctrl=Hardware()) as lab:
        yield lab


def test_groups(lab: Lab) -> None:
    (command,) = re.findall(
        r"^ +(find /sys/fs/resctrl .*)$", PAGE.read_text(), re.MULTILINE
    )
    others = lab.resctrl_path / "mon_groups" / "pqos"
    control = lab.resctrl_path / "gold"
    for folder in (others, control):
        folder.mkdir()
    for parent in (lab.resctrl_path, control):
        uuid = "6f1c1d0e-6a4f-4f0a-9a52-0d0c3d0b7a01"
        (parent / "mon_groups" / f"{PREFIX}{uuid}").mkdir()
    assert len(Resctrl(lab.resctrl_path).ours()[uuid]) == 2
    here = command.replace("/sys/fs/resctrl", str(lab.resctrl_path))
    subprocess.run(["bash", "-ec", here], check=True)
    assert Resctrl(lab.resctrl_path).ours() == {}
    assert others.exists()


def test_an_event_is_turned_off_at_once(lab: Lab) -> None:
    (command,) = re.findall(r"``(virsh perf DOMAIN .*?)``", TEXT)
    events = ("task_clock", "cpu_cycles")
    guest = lab.start(Guest("removed", "paused", events=events))
    domain = lab.connection.lookupByUUIDString(guest.uuid)
    words = command.replace("DOMAIN", domain.name())
    name, *rest = shlex.split(words.replace("EVENT", "cpu_cycles"))
    subprocess.run([name, "--connect", lab.uri, *rest], check=True)
    ((_, counted),) = lab.connection.domainListGetStats([domain])
    assert "perf.cpu_cycles" not in counted
    assert "perf.task_clock" in counted
    lab.remove(guest)


@pytest.mark.parametrize(
    ("target", "left"), [(["task_clock"], ["task_clock"]), ([], [])]
)
def test_live_migration(target: list[str], left: list[str]) -> None:
    """Nova takes the events of where it goes to, and no others."""
    assert "replaced at a live migration by what the *target's*" in TEXT
    domain = etree.fromstring(
        "<domain><perf><event name='cpu_cycles' enabled='yes'/></perf>"
        "</domain>"
    )
    there = MigrateData(supported_perf_events=target)
    moved = migration._update_perf_events_xml(domain, there)
    assert [e.get("name") for e in moved.iterfind("perf/event")] == left


class MigrateData(SimpleNamespace):
    """As Nova's object tells which of its fields are set."""

    def __contains__(self, field: str) -> bool:
        return hasattr(self, field)
