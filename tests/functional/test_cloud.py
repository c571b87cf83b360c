# SPDX-License-Identifier: Apache-2.0
"""What instances of a real cloud go through, and what is published then.

Their stories are told once, side by side as far as they can be; each test is
about an event of one of them. The table is kept in pytest's cache folder, as
cloud/lifecycle.txt.
"""

import json
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import libvirt
import pytest
import requests

from tests.cloud import image, neighbours
from tests.cloud.bill import billed, grown
from tests.cloud.cloud import PATIENCE, Cloud
from tests.cloud.companion import (
    agrees,
    doctor_agrees,
    doctor_of_controller,
    status_agrees,
)
from tests.cloud.flavors import DEDICATED, FLAVORS
from tests.cloud.identity import Identity
from tests.cloud.metric import Metric
from tests.cloud.prometheus import (
    each_sees_his_own,
    is_in,
    nobody_hears_of_others,
    set_alarm,
)
from tests.cloud.servers import Servers
from tests.cloud.story import (
    COUNTERS,
    CYCLES,
    SLACK,
    Event,
    Row,
    Story,
    World,
    continues,
    counts_itself,
    restarts,
    silent,
    stands_still,
    untrue,
)
from tests.cloud.witness import TASK_CLOCK, Samples, Seen, Witness
from tests.lab import EVENTS, processes
from tools import cloud_demo

INTERVAL = 1  # second
LATE = "alignment_faults"
LATE_METER = f"perf.sw.{LATE}"
# As a list may be written, too.
OTHERS = " , ".join(event for event in EVENTS if event != LATE) + ","
FIRST, SECOND = "compute1", "compute2"


# What users do


def _boot(story: Story) -> None:
    story.boot("perf.small", "busy")


def _boot_on(host: str, name: str = "busy") -> Event:
    return Event(
        "boot", lambda s: s.boot("perf.small", name, host), "ACTIVE",
        restarts,
    )  # fmt: skip


def _resize(flavor: str) -> Event:
    def act(story: Story) -> None:
        story.demo.resize_server(story.uuid, story.world.flavors[flavor])

    return Event(f"resize to {flavor}", act, "VERIFY_RESIZE", restarts)


def _rebuild(story: Story) -> None:
    busy = story.world.images["busy"]
    story.demo.rebuild_server(story.uuid, image=busy)


def _delete(story: Story) -> None:
    story.admin.delete_server(story.uuid)
    story.wait_until_gone()


# What operators do


def _live_migrate(story: Story) -> None:
    before = story.host
    story.admin.live_migrate_server(
        story.uuid, host=None, block_migration="auto"
    )
    story.wait("ACTIVE")
    assert story.host != before, f"it is on {before} still"


def _restart_nova_compute(story: Story) -> None:
    """Its nova.conf has another event then, in another spelling."""
    host = story.host
    compute = story.world.compute(host)
    compute.configure(enabled_perf_events=",\n  ".join(EVENTS))
    server = compute.compute
    server.send(signal.SIGKILL)
    server.log.rename(server.log.with_suffix(".1"))
    server.start()
    server.wait(PATIENCE)
    _wait_for_service(story, host)


def _wait_for_service(story: Story, host: str) -> None:
    def up() -> bool:
        (found,) = story.admin.services(binary="nova-compute", host=host)
        return bool(found.state == "up" and found.status == "enabled")

    story.until(up, f"nova-compute on {host} is up and enabled")


def _reboot_with_late(story: Story) -> None:
    story.world.counters |= {LATE_METER}
    story.admin.reboot_server(story.uuid, "HARD")


def _restart_agent(story: Story) -> None:
    server = story.world.compute(story.host).polling
    server.send(signal.SIGKILL)
    server.start()
    server.wait(PATIENCE)


def _enable_live(story: Story) -> None:
    lab = story.world.compute(story.host).lab
    domain = lab.connection.lookupByUUIDString(story.uuid)
    domain.setPerfEvents({LATE: True}, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _kill_libvirtd(story: Story) -> None:
    host = story.host
    libvirtd = story.world.compute(host).lab.libvirtd
    libvirtd.kill(signal.SIGKILL)
    libvirtd.start()
    story.world.libvirtd_killed.set()


def _wait_for_libvirtd(story: Story) -> None:
    story.until(story.world.libvirtd_killed.is_set, "libvirtd is killed")


def _kill_rabbitmq(story: Story) -> None:
    server = story.world.cloud.rabbitmq.server
    server.send(signal.SIGKILL)
    server.start()
    server.wait(PATIENCE)


def _kill_host(story: Story) -> None:
    compute = story.world.compute(SECOND)
    compute.compute.send(signal.SIGKILL)
    compute.lab.libvirtd.kill(signal.SIGKILL)
    mark = processes.mark_of(compute.lab.run_dir)
    for path in (compute.lab.run_dir / "qemu").glob("instance-*.pid"):
        processes.send(int(path.read_text()), signal.SIGKILL, mark)


def _evacuate(story: Story) -> None:
    (found,) = story.admin.services(binary="nova-compute", host=SECOND)
    story.admin.update_service_forced_down(found, forced=True)
    story.admin.evacuate_server(story.uuid)
    story.wait("SHUTOFF")
    story.admin.start_server(story.uuid)


# What must be published then


def _one_withheld(story: Story, done: float) -> None:
    """The event that was enabled live; the others go on.

    libvirt's hardware events count right, and own ones would disturb them.
    """
    before = story.previous()
    assert before

    def cycles() -> list[float]:
        found = story.published(done, meter="perf.withheld")
        return [s.volume for s in found] if len(found) >= CYCLES else []

    counts = story.until(cycles, f"{CYCLES} cycles of perf.withheld")
    story.row.published = f"on {story.host}, same since, all but 1"
    assert set(counts) == {1}, counts
    clocks = story.published(done, meter=TASK_CLOCK)
    assert {s.since for s in clocks} == {before.since}
    assert {s.metadata["perf"]["source"] for s in clocks} == {"libvirt"}
    assert not story.published(done, meter=LATE_METER)


def _nothing_stale(story: Story, done: float) -> None:
    """The dead host's exporter has no series after two intervals.

    Those that the agent needs on this machine, however busy it is.
    """
    exporter = story.world.compute(SECOND).exporter
    times = [s.at for s in story.published(0, meter="perf.coverage")][-5:]
    interval = max(b - a for a, b in pairwise(times))

    def series() -> list[str]:
        page = requests.get(f"http://{exporter}/metrics", timeout=10).text
        return [line for line in page.splitlines() if story.uuid in line]

    while stale := series():
        waited = time.monotonic() - done
        assert waited < 2 * interval + 1, f"{waited:.0f} s: {stale}"
        time.sleep(0.2)
    waited = time.monotonic() - done
    story.row.published = f"nothing; exporter empty after {waited:.1f} s"
    assert not story.published(done)


Stories = Mapping[str, Sequence[Event]]

BOOT = Event("boot", _boot, "ACTIVE", restarts)
HARD_REBOOT = Event(
    "hard reboot", lambda s: s.admin.reboot_server(s.uuid, "HARD"), "ACTIVE",
    restarts,
)  # fmt: skip
CONFIRM = Event(
    "confirm", lambda s: s.demo.confirm_server_resize(s.uuid), "ACTIVE",
    continues,
)  # fmt: skip
STATUS = Event("status", lambda _: None, "ACTIVE", status_agrees)
DOCTOR = Event("doctor", lambda _: None, "ACTIVE", doctor_agrees)
DELETE = Event("delete", _delete, "", silent)
LIVE_MIGRATION = Event("live migration", _live_migrate, "", restarts)


def _boots(*pairs: tuple[str, str]) -> tuple[Event, ...]:
    """Flavors and images, in turn: a host has one CPU for what is pinned."""
    return tuple(
        event
        for flavor, name in pairs
        for event in (
            Event(f"boot {flavor}, {name}", partial(Story.boot, flavor=flavor,
                  image=name), "ACTIVE", agrees),
            Event("delete", _delete, "", lambda story, done: None),
        )
    )  # fmt: skip


# Where there is a CPU for the two of them.
ALONE: Stories = {
    neighbours.NAME: (
        _boot_on(FIRST, "half"),
        Event("has a CPU", neighbours.BEFORE_OTHERS, "ACTIVE",
              neighbours.is_known),
    ),
} if DEDICATED else {}  # fmt: skip
NOISY: Stories = {
    "Watcher": (
        Event("start", lambda s: s.world.cloud.start_watcher(), "",
              lambda story, done: None),
    ),
    "culprit": (
        Event("boot", neighbours.boot_beside, "ACTIVE", restarts),
        Event("takes the CPU", neighbours.BEFORE_ALL, "ACTIVE",
              neighbours.is_named),
    ),
} if DEDICATED else {}  # fmt: skip
RELIEVED: Stories = {
    "culprit": (
        Event("audit", neighbours.audit, "ACTIVE", neighbours.is_over),
    ),
} if DEDICATED else {}  # fmt: skip


#: One after another; the stories of each are told side by side.
CHAPTERS: tuple[Stories, ...] = (
    {
        "resting": (
            BOOT,
            Event("Aetos", lambda _: None, "ACTIVE", each_sees_his_own),
            Event("alarm", set_alarm, "ACTIVE", is_in("alarm")),
            Event("pause", lambda s: s.demo.pause_server(s.uuid), "PAUSED",
                  stands_still),
            Event("alarm when paused", lambda _: None, "PAUSED", is_in("ok")),
            Event("unpause", lambda s: s.demo.unpause_server(s.uuid),
                  "ACTIVE", continues),
            Event("suspend", lambda s: s.demo.suspend_server(s.uuid),
                  "SUSPENDED", silent),
            Event("resume", lambda s: s.demo.resume_server(s.uuid),
                  "ACTIVE", restarts),
            Event("rescue", lambda s: s.demo.rescue_server(s.uuid),
                  "RESCUE", restarts),
            Event("unrescue", lambda s: s.demo.unrescue_server(s.uuid),
                  "ACTIVE", restarts),
            DELETE,
        ),
        "rebooting": (
            BOOT,
            Event("stop", lambda s: s.demo.stop_server(s.uuid), "SHUTOFF",
                  silent),
            Event("start", lambda s: s.demo.start_server(s.uuid), "ACTIVE",
                  restarts),
            Event("soft reboot",
                  lambda s: s.demo.reboot_server(s.uuid, "SOFT"), "ACTIVE",
                  restarts),
            HARD_REBOOT,
            Event("snapshot",
                  lambda s: s.demo.create_server_image(s.uuid, "snapshot"),
                  "ACTIVE", continues),
            Event("rebuild", _rebuild, "ACTIVE", restarts),
            Event("shelve", lambda s: s.demo.shelve_server(s.uuid),
                  "SHELVED_OFFLOADED", silent),
            Event("unshelve", lambda s: s.demo.unshelve_server(s.uuid),
                  "ACTIVE", restarts),
        ),
        "moving": (
            BOOT,
            _resize("perf.large"),
            CONFIRM,
            _resize("perf.small"),
            Event("revert", lambda s: s.demo.revert_server_resize(s.uuid),
                  "ACTIVE", restarts),
            Event("cold migration", lambda s: s.admin.migrate_server(s.uuid),
                  "VERIFY_RESIZE", restarts),
            CONFIRM,
        ),
        "pmu": _boots(
            ("perf.small", "idle"), ("perf.pmu", "idle"),
            ("perf.small", "idle.nopmu"),
        ),
        "realtime": _boots(
            *(
                (f.name, "idle.mask" if f.name.endswith("nomask") else "idle")
                for f in FLAVORS
                if f.realtime
            )
        ),
        "live": (
            _boot_on(SECOND),
            Event("alarm", lambda _: None, "ACTIVE", nobody_hears_of_others),
            LIVE_MIGRATION,
            LIVE_MIGRATION,
        ),
    },
    {
        "first": (
            _boot_on(FIRST),
            STATUS,
            DOCTOR,
            Event("agent killed", _restart_agent, "ACTIVE", continues),
            Event("event enabled live", _enable_live, "ACTIVE",
                  _one_withheld),
            STATUS,
        ),
        "second": (
            _boot_on(SECOND),
            STATUS,
            Event("doctor of controller", lambda _: None, "ACTIVE",
                  doctor_of_controller),
            Event("libvirtd killed", _kill_libvirtd, "ACTIVE",
                  counts_itself),
            STATUS,
            HARD_REBOOT,
            DOCTOR,
        ),
        **ALONE,
        # On the host whose libvirtd is killed.
        "live": (
            Event("libvirtd killed", _wait_for_libvirtd, "ACTIVE",
                  counts_itself),
            LIVE_MIGRATION,
            DELETE,
        ),
        "moving": (DELETE,),
        "rebooting": (DELETE,),
    },
    {
        "first": (
            Event("RabbitMQ killed", _kill_rabbitmq, "ACTIVE",
                  _one_withheld),
        ),
    },
    NOISY,
    RELIEVED,
    {
        "first": (
            Event("nova.conf changed, nova-compute killed",
                  _restart_nova_compute, "ACTIVE", _one_withheld),
            Event("hard reboot", _reboot_with_late, "ACTIVE", restarts),
            Event("nothing", lambda _: None, "ACTIVE", agrees),
        ),
        "second": (Event("host killed", _kill_host, "", _nothing_stale),),
    },
    {"second": (Event("evacuation", _evacuate, "ACTIVE", restarts),)},
)  # fmt: skip


class Table:
    """Of events, as they come to pass; a file with a line for each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.write_text(
            f"{'began':<7}  {'instance':<10} {'event':<38} {'took':<7} "
            f"{'checked':<7}  {'published':<40} {'coverage':<12} growth of "
            "task_clock, within the CPU time of its QEMU\n"
        )
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self.say(
            f"{row.began:5.0f} s  {row.instance:<10} {row.event:<38} "
            f"{row.seconds:5.1f} s {row.checked:5.1f} s  "
            f"{row.published:<40} {row.coverage:<12} {row.growth:<30} "
            f"{row.wrong[:300] or 'right'}"
        )

    def say(self, line: str) -> None:
        with self._path.open("a") as table:
            table.write(f"{line}\n")


@dataclass
class Lifecycle:
    """What was seen."""

    world: World
    table: Table


def _tell_all(world: World, table: Table, pool: ThreadPoolExecutor) -> None:
    names = {name for chapter in CHAPTERS for name in chapter}
    stories = {name: Story(world, name) for name in names}

    def tell(name: str, events: Sequence[Event]) -> None:
        for event in events:
            table.add(stories[name].tell(event))

    for chapter in CHAPTERS:
        told = [pool.submit(tell, *each) for each in chapter.items()]
        try:
            for each in told:
                each.result()
        except BaseException:
            world.over.set()
            raise


@pytest.fixture(scope="module")
def lifecycle(pytestconfig: pytest.Config) -> Iterator[Lifecycle]:
    assert pytestconfig.cache
    table = Table(pytestconfig.cache.mkdir("cloud") / "lifecycle.txt")
    # Servers end with the thread that started them.
    with (
        ThreadPoolExecutor(max(map(len, CHAPTERS))) as pool,
        # Not pytest's, which the next pytest closes to others.
        tempfile.TemporaryDirectory(prefix="ceilometer-perf-cloud-") as folder,
        Cloud(
            Path(folder), computes=2, interval=INTERVAL, record=True,
            options={"enabled_perf_events": OTHERS}, stored=[TASK_CLOCK],
            prometheus=True,
        ) as cloud,
        Witness(cloud.computes) as witness,
    ):  # fmt: skip
        admin = cloud.identity.admin
        for flavor in FLAVORS:
            flavor.create(admin)
        world = World(
            cloud,
            Samples(cloud.computes),
            witness,
            {each.name: each.id for each in admin.compute.flavors()},
            image.upload(admin),
            COUNTERS - {LATE_METER},
            Servers(Identity(cloud.site).admin.compute),
        )
        _tell_all(world, table, pool)
        yield Lifecycle(world, table)


NAMES = [
    (name, event.name, number)
    for name in dict.fromkeys(n for chapter in CHAPTERS for n in chapter)
    for number, event in enumerate(
        e for chapter in CHAPTERS for e in chapter.get(name, ())
    )
]


@pytest.mark.parametrize(
    ("name", "event", "number"),
    [pytest.param(*each, id=f"{each[0]}-{each[1]}") for each in NAMES],
)
def test_what_is_published_after(
    lifecycle: Lifecycle, name: str, event: str, number: int
) -> None:
    row = [r for r in lifecycle.table.rows if r.instance == name][number]
    assert row.event == event
    assert row.wrong == "", f"{row.event} of {row.instance}: {row.wrong}"


def test_every_sample_is_the_cpu_time_of_its_qemu(
    lifecycle: Lifecycle,
) -> None:
    world = lifecycle.world
    samples = [
        each
        for each in world.samples.after(0, meter=TASK_CLOCK)
        # The helper's begin when it is needed: their growth is checked.
        if each.metadata["perf"]["source"] == "libvirt"
    ]
    assert len(samples) > len(NAMES)
    for each in samples:
        life = world.witness.life(each.host, each.instance, each.at)
        assert life, f"{each.instance} had no QEMU on {each.host}"
        untrue(each, life)


def test_gnocchi_bills_each_second_once(lifecycle: Lifecycle) -> None:
    world = lifecycle.world
    gnocchi = Metric(Identity(world.cloud.site).admin)
    by_instance: dict[str, list[Seen]] = {}
    for each in world.samples.after(0, meter=TASK_CLOCK):
        by_instance.setdefault(each.instance, []).append(each)
    for instance, seen in by_instance.items():
        if len(seen) < CYCLES:
            continue  # one value is no growth
        least = grown(seen) - 0.001
        bill = billed(gnocchi, instance, least)
        used = world.witness.used(instance)
        name = seen[0].metadata["display_name"]
        lifecycle.table.say(
            f"{name}: {bill:.2f} s billed of {used:.2f} s that it used on "
            f"{', '.join(dict.fromkeys(s.host for s in seen))}"
        )
        assert least <= bill <= used + SLACK, f"{name}: at least {least:.2f}"


def test_the_demo(
    lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What it waits for is published (see above); this cloud stores one."""
    monkeypatch.setattr(cloud_demo, "COUNTERS", {TASK_CLOCK})
    cloud = lifecycle.world.cloud
    hosts = {each.name: {"emulated": ["a PMU"]} for each in cloud.computes}
    cloud_demo.run(cloud.folder, {"hosts": hosts}, as_json=True)
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert {(each["name"], each["meter"]) for each in found} == {
        ("busy", TASK_CLOCK),
        ("idle", TASK_CLOCK),
    }
    assert {each["host"] for each in found} <= {c.name for c in cloud.computes}
    assert err.splitlines()[-1] == "Emulated: a PMU"


def test_no_two_hosts_publish_an_instance(lifecycle: Lifecycle) -> None:
    by_instance: dict[str, list[tuple[str, str]]] = {}
    for each in lifecycle.world.samples.after(0, meter=TASK_CLOCK):
        runs = by_instance.setdefault(each.instance, [])
        if runs[-1:] != [(each.host, each.since)]:
            runs.append((each.host, each.since))
    # What was left once does not come back.
    for runs in by_instance.values():
        assert len(runs) == len(set(runs)), runs
        assert len(runs) == len({since for _, since in runs}), runs
