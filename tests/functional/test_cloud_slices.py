# SPDX-License-Identifier: Apache-2.0
"""Two hosts of a real cloud that are divided, and an ordinary user."""

import json
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt
import openstack
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ceilometer_perf.guest import slice_metadata, xml
from ceilometer_perf.slices.placement.encoding import PLACE
from tests.cloud import image, slices
from tests.cloud.cloud import PATIENCE, Cloud
from tests.cloud.compute import STATE, Compute
from tests.cloud.identity import Identity
from tests.cloud.servers import Servers
from tests.cloud.slices import TREE
from tests.cloud.story import Story, World
from tests.cloud.witness import TASK_CLOCK, Samples, Witness
from tests.functional.slice_oracle import Oracle
from tests.unit.shell import run

INTERVAL = 5  # seconds
# Of each walk. One takes a minute; tools/soak.sh --properties does seven.
STEPS = 12
WALKS = 7 if settings.get_current_profile_name() == "soak" else 1


class Instance(Story):
    """One with the flavor of a class.

    An ordinary user's; on a host of choice, the administrator's.
    """

    user: Any

    def start(self, end: str, host: str | None = None) -> bool:
        """Whether it became active; the scheduler found no host otherwise."""
        self.user = self.admin if host else self.demo
        self.boot(end, "idle", host)
        self.until(self.is_settled, "it is active, or refused")
        server = self.server()
        if server.status == "ERROR":
            assert "No valid host" in server.fault["message"], server.fault
        return bool(server.status == "ACTIVE")

    def is_settled(self) -> bool:
        server = self.server()
        settled = server.status in {"ACTIVE", "ERROR"}
        return settled and server.task_state is None

    def delete(self) -> None:
        server = self.server()
        self.admin.delete_server(server)
        self.admin.wait_for_delete(server, interval=0.3)
        # Nova takes care of that a moment later.
        self.until(lambda: not self.allocated(), "its slice is free")

    def allocated(self) -> Mapping[str, Any]:
        """What Placement says that it has."""
        placement = self.world.cloud.identity.admin.placement
        answer = placement.get(f"/allocations/{self.uuid}")
        found: Mapping[str, Any] = answer.json()["allocations"]
        return found

    def domain(self, host: str | None = None) -> libvirt.virDomain:
        """The one that its host has of it."""
        lab = self.world.compute(host or self.host).lab
        return lab.connection.lookupByUUIDString(self.uuid)

    def xml(self) -> xml.Element:
        text = self.domain().XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return xml.parse(text).getroot()

    @property
    def slice(self) -> str | None:
        return slice_metadata.name_in(self.xml())


@dataclass
class Site:
    """The cloud, and who has which slice of each host."""

    world: World
    held: list[Instance] = field(default_factory=list)

    def instance(self) -> Instance:
        return Instance(self.world, f"slice-{uuid.uuid4().hex[:6]}")

    def start(self, end: str, host: str | None = None) -> Instance:
        """One for which there is a slice."""
        made = self.instance()
        self.held.append(made)
        assert made.start(end, host), made.server().fault
        return made

    def delete_all(self) -> None:
        while self.held:
            self.held.pop().delete()

    @property
    def computes(self) -> list[Compute]:
        return self.world.cloud.computes

    def records(self, compute: Compute) -> Mapping[str, str]:
        """The slices that are reserved on a host."""
        folder = compute.lab.folder / "lib" / STATE.name / "slices"
        found: dict[str, str] = {}
        for path in folder.glob("*.json"):
            found |= json.loads(path.read_text())
        return found

    def inventories(self, compute: Compute) -> dict[str, int]:
        """Of the compute node's own provider: what may be allocated."""
        placement = self.world.cloud.identity.admin.placement
        (node,) = placement.resource_providers(name=compute.name)
        path = f"/resource_providers/{node.id}/inventories"
        found = placement.get(path, microversion="1.39").json()
        return {
            name: each["total"] - each["reserved"]
            for name, each in found["inventories"].items()
        }

    def restart(self, compute: Compute, **options: str) -> None:
        """Kill nova-compute, and start it with other slices, or none."""
        compute.options.pop("slice_spec", None)
        compute.configure(**options)
        server = compute.compute
        server.send(signal.SIGKILL)
        server.log.rename(server.log.with_suffix(".1"))
        server.start()
        server.wait(PATIENCE)
        self.until(lambda: self.is_up(compute), "nova-compute is up")

    def is_up(self, compute: Compute) -> bool:
        admin = self.world.cloud.identity.admin.compute
        (found,) = admin.services(binary="nova-compute", host=compute.name)
        return bool(found.state == "up" and found.status == "enabled")

    def until(self, condition: Callable[[], Any], what: str) -> None:
        self.instance().until(condition, what)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="ceilometer-perf-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        cloud = Cloud(
            folder / "cloud", computes=2, interval=INTERVAL, record=True,
            # What the agents send is asked for here, not what is stored.
            stored=[TASK_CLOCK],
            # In capitals, twice, and nothing that Linux has.
            options={"enabled_perf_events": "TASK_CLOCK,task_clock,cmt"},
        )  # fmt: skip
        slices.divide(cloud, folder)
        with cloud:
            yield Site(
                World(
                    cloud,
                    Samples(cloud.computes),
                    Witness(cloud.computes),
                    dict(slices.create_flavors(cloud)),
                    image.upload(cloud.identity.admin),
                    frozenset(),
                    Servers(Identity(cloud.site).admin.compute),
                )
            )


@pytest.fixture(autouse=True)
def nothing_left(site: Site) -> Iterator[None]:
    yield
    site.delete_all()


def test_what_hosts_report(site: Site) -> None:
    for compute in site.computes:
        assert site.inventories(compute) == {PLACE: 4}
        conf = str(compute.nova_conf)
        ran = run("slice", "sync", "--nova-conf", conf, "-f", "json")
        assert ran.err == ""
        found = json.loads(ran.out)
        assert found["writes"] == []
        assert {each["state"] for each in found["providers"]} == {"open"}


def test_a_user_fills_both_hosts(site: Site) -> None:
    whole = site.start("WHOLE")
    halves = [site.start("HALF") for _ in range(2)]
    assert {each.slice for each in halves} == {"left", "right"}
    assert {each.host for each in halves}.isdisjoint({whole.host})
    for end in "WHOLE", "HALF", "QUARTER":
        refused = site.instance()
        site.held.append(refused)
        assert not refused.start(end)
    host = whole.host
    site.held.remove(whole)
    whole.delete()
    quarters = [site.start("QUARTER") for _ in range(4)]
    assert {each.host for each in quarters} == {host}
    assert sorted(str(each.slice) for each in quarters) == [
        "left-1", "left-2", "right-1", "right-2",
    ]  # fmt: skip


def test_its_xml_is_the_templates_and_novas(site: Site) -> None:
    whole = site.start("WHOLE")
    root = whole.xml()
    assert whole.slice == "whole"
    # The template's
    assert root.findtext("memory") == str(slices.MIB["WHOLE"] * 1024)
    pins = [pin.get("cpuset") for pin in root.iterfind("cputune/vcpupin")]
    assert pins == list(slices.cpus("whole"))
    (balloon,) = root.iterfind("devices/memballoon")
    assert balloon.get("model") == "none"
    # Nova's
    server = whole.server()
    assert root.findtext("uuid") == whole.uuid
    assert root.findtext("name") == server.instance_name
    noted = root.find(
        "metadata/{*}instance/{*}flavor/{*}extraSpecs/{*}extraSpec"
        f"[@name='resources:{PLACE}']"
    )
    assert noted is not None
    (disk,) = root.iterfind("devices/disk")
    source = disk.find("source")
    assert source is not None
    assert source.get("file") == f"{STATE}/instances/{whole.uuid}/disk"
    entries = {e.get("name"): e.text for e in root.iterfind("sysinfo//entry")}
    assert entries["uuid"] == whole.uuid
    assert root.find("devices/serial/log") is not None
    assert root.find("devices/rng") is not None
    # The companion's
    events = [e.get("name") for e in root.iterfind("perf/event")]
    assert events == ["task_clock"]
    _, allowed = whole.domain().vcpus()
    assert [sum(cpus) for cpus in allowed] == [1, 1]


def test_samples_carry_the_slice(site: Site) -> None:
    half = site.start("HALF")
    began = time.monotonic()
    assert _slices(half, began) == {half.slice}


def _slices(instance: Instance, after: float) -> set[str]:
    """Of two cycles of samples, as soon as they are there."""

    def seen() -> list[str]:
        found = instance.published(after, meter=TASK_CLOCK)
        names = [each.metadata["perf"].get("slice", "") for each in found]
        return names if len(names) > 1 else []

    return set(instance.until(seen, "samples of it"))


ACTIONS: Mapping[str, tuple[Callable[[Instance], object], str]] = {
    "hard reboot": (lambda i: i.user.reboot_server(i.uuid, "HARD"), "ACTIVE"),
    "soft reboot": (lambda i: i.user.reboot_server(i.uuid, "SOFT"), "ACTIVE"),
    "stop": (lambda i: i.user.stop_server(i.uuid), "SHUTOFF"),
    "start": (lambda i: i.user.start_server(i.uuid), "ACTIVE"),
    "pause": (lambda i: i.user.pause_server(i.uuid), "PAUSED"),
    "unpause": (lambda i: i.user.unpause_server(i.uuid), "ACTIVE"),
    "suspend": (lambda i: i.user.suspend_server(i.uuid), "SUSPENDED"),
    "resume": (lambda i: i.user.resume_server(i.uuid), "ACTIVE"),
    "rescue": (lambda i: i.user.rescue_server(i.uuid), "RESCUE"),
    "unrescue": (lambda i: i.user.unrescue_server(i.uuid), "ACTIVE"),
    "snapshot": (
        lambda i: i.user.create_server_image(i.uuid, "snapshot"), "ACTIVE",
    ),
    "rebuild": (
        lambda i: i.user.rebuild_server(i.uuid, image=i.world.images["idle"]),
        "ACTIVE",
    ),
}  # fmt: skip


def test_what_keeps_the_slice(site: Site) -> None:
    """It is not the first that is free, so none gets it by chance."""
    host = site.computes[0].name
    # Two of them are parts of one half.
    three = [site.start("QUARTER", host) for _ in range(3)]
    halves = [str(each.slice).partition("-")[0] for each in three]
    first, second = (
        each
        for each, half in zip(three, halves, strict=True)
        if halves.count(half) == 2
    )
    kept = second.slice
    site.held.remove(first)
    first.delete()
    for name, (act, status) in ACTIONS.items():
        act(second)
        second.until(
            lambda: second.server().task_state is None,
            f"{name} is over",
        )
        second.wait(status)
        assert second.slice == kept, name


def test_live_migration_is_refused(site: Site) -> None:
    half = site.start("HALF")
    before, number = half.slice, half.domain().ID()
    (other,) = (c for c in site.computes if c.name != half.host)
    with pytest.raises(openstack.exceptions.BadRequestException):
        half.admin.live_migrate_server(
            half.uuid, host=other.name, block_migration="auto"
        )
    assert "its slice is hardware" in other.compute.log.read_text()
    half.wait("ACTIVE")
    assert half.host != other.name
    assert (half.slice, half.domain().ID()) == (before, number)


def test_cold_migration_takes_a_slice_there(site: Site) -> None:
    half = site.start("HALF")
    before = half.host, half.slice
    half.admin.migrate_server(half.uuid)
    half.wait("VERIFY_RESIZE")
    assert half.host != before[0]
    assert half.slice in {"left", "right"}
    # It may come back: its slice is nobody else's until then.
    other = site.start("HALF", before[0])
    assert {other.slice, before[1]} == {"left", "right"}
    half.user.revert_server_resize(half.uuid)
    half.wait("ACTIVE")
    assert (half.host, half.slice) == before


def test_resize(site: Site) -> None:
    half = site.start("HALF")
    half.user.resize_server(half.uuid, half.world.flavors["WHOLE"])
    half.wait("VERIFY_RESIZE")
    assert half.slice == "whole"
    half.user.confirm_server_resize(half.uuid)
    half.wait("ACTIVE")
    _, allowed = half.domain().vcpus()
    assert len(allowed) == len(slices.cpus("whole"))
    # What it had is free again.
    other = site.start("WHOLE")
    assert other.host != half.host


class Walk(RuleBasedStateMachine):
    """Create, reboot and delete: nothing that overlaps runs together."""

    site: Site
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.oracles = {c.name: Oracle(TREE) for c in self.site.computes}
        self.instances: dict[str, Instance] = {}

    @rule(end=st.sampled_from(["WHOLE", "HALF", "QUARTER", "QUARTER"]))
    def create(self, end: str) -> None:
        type(self).steps += 1
        resource_class = f"CUSTOM_{end}"
        fits = any(o.fits(resource_class) for o in self.oracles.values())
        made = self.site.instance()
        self.site.held.append(made)
        assert made.start(end) == fits, self.oracles
        if not fits:
            self.site.held.remove(made)
            made.delete()
            return
        name = str(made.slice)
        # It is free: nothing that overlaps is held.
        self.oracles[made.host].take(made.uuid, resource_class, {name: {}})
        assert self.oracles[made.host].held[made.uuid] == name
        self.instances[made.uuid] = made
        self._look()

    @precondition(lambda self: self.instances)
    @rule(which=st.integers(0, 20))
    def delete(self, which: int) -> None:
        type(self).steps += 1
        gone = self._pick(which)
        host = gone.host
        gone.delete()
        self.site.held.remove(gone)
        self.oracles[host].give_back(gone.uuid)
        del self.instances[gone.uuid]

    @precondition(lambda self: self.instances)
    @rule(which=st.integers(0, 20))
    def reboot(self, which: int) -> None:
        type(self).steps += 1
        again = self._pick(which)
        again.user.reboot_server(again.uuid, "HARD")
        again.wait("ACTIVE")
        self._look()

    def _pick(self, which: int) -> Instance:
        return list(self.instances.values())[which % len(self.instances)]

    def _look(self) -> None:
        """All that run have what they are thought to have."""
        for compute in self.site.computes:
            found = {
                each.UUIDString(): slice_metadata.read(each.XMLDesc(0))
                for each in compute.lab.connection.listAllDomains(
                    libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
                )
            }
            assert found == self.oracles[compute.name].held

    def teardown(self) -> None:
        self.site.delete_all()


def test_any_order_of_create_and_delete(site: Site) -> None:
    machine = type("Walk", (Walk,), {"site": site})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=WALKS,
            stateful_step_count=STEPS,
            deadline=None,
            # To shrink what failed would take an hour.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    assert machine.steps >= 0.8 * WALKS * STEPS  # type: ignore[attr-defined]


def test_what_does_not_start_leaves_nothing(
    site: Site, tmp_path: Path
) -> None:
    files = [Path(spec["template_file"]) for spec in _specs(site)]
    (template,) = (path for path in files if path.stem == "whole")
    saved = shutil.copy(template, tmp_path)
    # libvirt takes it, and can't start it.
    text = template.read_text().replace("cpuset='1'", "cpuset='8000'")
    template.write_text(text)
    try:
        failing = site.instance()
        site.held.append(failing)
        failing.boot("WHOLE", "idle")
        failing.wait("ERROR")
        for compute in site.computes:
            assert compute.lab.connection.listAllDomains() == []
            assert failing.uuid not in site.records(compute)
    finally:
        shutil.copy(saved, template)
    for _ in site.computes:
        site.start("WHOLE")


def test_nova_compute_is_killed_in_the_middle(site: Site) -> None:
    compute, _ = site.computes
    halfway = site.instance()
    site.held.append(halfway)
    halfway.boot("WHOLE", "idle", compute.name)
    halfway.until(
        lambda: halfway.server().task_state in {"spawning", None},
        "Nova makes it",
    )
    site.restart(compute, slice_spec=compute.options["slice_spec"])
    halfway.until(halfway.is_settled, "Nova knows what became of it")
    site.delete_all()
    for each in site.computes:
        assert each.lab.connection.listAllDomains() == []
    for _ in site.computes:
        site.start("WHOLE")


def test_the_scheduler_is_killed(site: Site) -> None:
    """What waits for a host gets one, once it is there again."""
    servers = site.world.cloud.servers
    (scheduler,) = (s for s in servers if s.name == "nova-scheduler")
    scheduler.send(signal.SIGKILL)
    waiting = site.instance()
    site.held.append(waiting)
    waiting.boot("HALF", "idle")
    waiting.until(
        lambda: waiting.server().task_state == "scheduling", "it waits"
    )
    scheduler.start()
    waiting.until(waiting.is_settled, "it has a host, or none")
    waiting.wait("ACTIVE")
    assert waiting.slice in {"left", "right"}


def test_a_reboot_needs_no_placement(site: Site) -> None:
    """As where a host boots before its controllers do."""
    half = site.start("HALF")
    before = half.slice
    servers = site.world.cloud.servers
    (placement,) = (s for s in servers if s.name == "placement-api")
    placement.send(signal.SIGKILL)
    half.user.reboot_server(half.uuid, "HARD")
    half.until(lambda: half.server().task_state is None, "it is rebooted")
    half.wait("ACTIVE")
    assert half.slice == before
    placement.start()
    placement.wait(PATIENCE)


def test_libvirtd_is_killed(site: Site) -> None:
    half = site.start("HALF")
    before = half.slice
    compute = half.world.compute(half.host)
    compute.lab.libvirtd.kill(signal.SIGKILL)
    compute.lab.libvirtd.start()
    site.until(lambda: site.is_up(compute), "nova-compute is enabled")
    half.user.reboot_server(half.uuid, "HARD")
    half.until(lambda: half.server().task_state is None, "it is rebooted")
    half.wait("ACTIVE")
    assert half.slice == before


def _specs(site: Site) -> list[Any]:
    entries = site.computes[0].options["slice_spec"]
    return [json.loads(e) for e in entries.split("\nslice_spec = ")]


def test_a_host_that_loses_its_slices_while_they_are_used(site: Site) -> None:
    compute, _ = site.computes
    entries = compute.options["slice_spec"]
    half = site.start("HALF", compute.name)
    before = half.slice
    try:
        site.restart(compute)
        kept = {"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0, PLACE: 1}
        site.until(
            lambda: (
                site.inventories(compute) | {"PCPU": 0} == {**kept, "PCPU": 0}
            ),
            "nothing of it is offered",
        )
        log = compute.compute.log
        said = "is not offered while the host has 1 instance in an earlier"
        assert f"{said} slice: migrate or delete {half.uuid}" in (
            log.read_text()
        )
        number = half.domain().ID()
        half.user.reboot_server(half.uuid, "HARD")
        half.until(
            lambda: "has a flavor for a slice" in log.read_text(), "refused"
        )
        half.wait("ACTIVE")
        assert half.domain().ID() == number
    finally:
        site.restart(compute, slice_spec=entries)
    site.until(
        lambda: site.inventories(compute) == {PLACE: 4}, "slices are offered"
    )
    half.user.reboot_server(half.uuid, "HARD")
    half.wait("ACTIVE")
    assert half.slice == before
