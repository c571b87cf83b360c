# SPDX-License-Identifier: Apache-2.0
"""What becomes of an instance, and what must be published of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ceilometer_perf.meters import METERS, PERF_KEYS
from tests.cloud.cloud import Cloud
from tests.cloud.compute import Compute
from tests.cloud.identity import Identity
from tests.cloud.servers import Servers
from tests.cloud.witness import TASK_CLOCK, Life, Samples, Seen, Witness

PATIENCE = 240.0  # seconds; Nova waits for a minute here and there
CYCLES = 2
QUIET = 6.0  # seconds, in which an agent with samples would send them
STARTED = 5.0  # seconds between a QEMU's start and `since`, at most
# Seconds of CPU time: the kernel's ticks, and a look's age at the worst.
SLACK = 0.06
SHARE = 0.03
COUNTERS = frozenset(m.name for m in METERS if m.key in PERF_KEYS)
#: What the agent's helper counts by default on any machine.
OWN = frozenset(
    f"perf.sw.{event}"
    for event in (
        "task_clock", "page_faults", "context_switches", "cpu_migrations",
    )
)  # fmt: skip


@dataclass
class Row:
    """Of the table of events."""

    instance: str
    event: str
    began: float = 0.0  # seconds after the stories did
    seconds: float = 0.0  # that the event took
    checked: float = 0.0  # seconds until it was seen to be right
    published: str = ""
    coverage: str = ""
    growth: str = ""
    wrong: str = "it did not come to it"


@dataclass
class World:
    """All that a story needs to know."""

    cloud: Cloud
    samples: Samples
    witness: Witness
    flavors: dict[str, str]
    images: dict[str, str]
    #: Meters of the events that nova.conf has.
    counters: frozenset[str]
    servers: Servers
    began: float = field(default_factory=time.monotonic)
    libvirtd_killed: threading.Event = field(default_factory=threading.Event)
    #: Nobody wants to hear the end.
    over: threading.Event = field(default_factory=threading.Event)

    def compute(self, name: str) -> Compute:
        """The host of that name."""
        return next(c for c in self.cloud.computes if c.name == name)


class Story:
    """An instance of an ordinary user's."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.uuid = ""
        self.row = Row("", "")
        own = Identity(world.cloud.site)
        self.admin = own.admin.compute
        self.demo = own.demo.compute
        self._images = own.admin.image
        self._began = 0.0

    def tell(self, event: "Event") -> Row:
        """Let it happen, and see whether what is published is right."""
        self.row = Row(self.name, event.name)
        self._began = time.monotonic()
        self.row.began = self._began - self.world.began
        try:
            event.act(self)
            if event.status:
                self.wait(event.status)
            done = time.monotonic()
            self.row.seconds = done - self._began
            event.then(self, done)
            self.row.wrong = ""
        except Exception as error:
            self.row.wrong = f"{type(error).__name__}: {error}"
        self.row.checked = time.monotonic() - self._began - self.row.seconds
        return self.row

    # What happens

    def boot(self, flavor: str, image: str, host: str | None = None) -> None:
        """As its user does; on a host of choice, the administrator."""
        extra = {} if host is None else {"host": host}
        self.uuid = (self.admin if host else self.demo).create_server(
            name=self.name, flavor_id=self.world.flavors[flavor],
            image_id=self.world.images[image], networks="none", **extra,
        ).id  # fmt: skip

    def server(self) -> Any:
        """What Nova says of it."""
        server = self.world.servers.find(self.uuid)
        assert server is not None, "Nova does not know it"
        return server

    def image_properties(self) -> dict[str, str]:
        """Of its image, those that begin with ``hw_``."""
        found = self._images.get_image(self.server().image.id).to_dict()
        known = {k: v for k, v in found.items() if k.startswith("hw_")}
        known |= found.get("properties") or {}
        return {
            k: str(v)
            for k, v in known.items()
            if k.startswith("hw_") and v is not None
        }

    def wait(self, status: str) -> None:
        """Return when it has that status, and nothing is going on."""
        deadline = time.monotonic() + PATIENCE
        while True:
            server = self.server()
            if server.status == status and server.task_state is None:
                return
            now = f"{server.status}, {server.task_state}"
            if server.status == "ERROR" != status:
                raise AssertionError(f"{now}: {server.fault}")
            if self.world.over.wait(1) or time.monotonic() > deadline:
                raise AssertionError(f"{now}, not {status}")

    def wait_until_gone(self) -> None:
        """Return when Nova does not know it any more."""
        self.until(
            lambda: self.world.servers.find(self.uuid) is None, "it is deleted"
        )

    @property
    def host(self) -> str:
        """Where it is."""
        return str(self.server().compute_host)

    # What must be published

    def published(self, after: float, **wanted: str) -> list[Seen]:
        """Of this instance, read after a moment."""
        found = self.world.samples
        return found.after(after, instance=self.uuid, **wanted)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """What it returns once that is true."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            if self.world.over.wait(0.5) or time.monotonic() > deadline:
                raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")
        return found

    def previous(self) -> Seen | None:
        """Its task_clock as it was read last before the event."""
        before = [
            each
            for each in self.published(0, meter=TASK_CLOCK)
            if each.at < self._began
        ]
        return before[-1] if before else None

    def counted(self, after: float) -> list[Seen]:
        """Its task_clock, from whole cycles after a moment, once it is."""

        def whole() -> list[Seen]:
            seen = self.published(after)
            clocks = [s for s in seen if s.meter == TASK_CLOCK]
            covered = [s for s in seen if s.meter == "perf.coverage"]
            enough = len(clocks) >= CYCLES and covered
            return clocks if enough else []

        found: list[Seen] = self.until(whole, f"{CYCLES} whole cycles")
        self._check(after, found)
        return found

    def _check(self, after: float, clocks: list[Seen]) -> None:
        server = self.server()
        self.row.published = f"on {server.compute_host}"
        seen = self.published(after)
        hosts = {each.host for each in seen}
        assert hosts == {server.compute_host}, hosts
        flavors = {each.metadata["flavor"]["name"] for each in seen}
        assert flavors == {server.flavor.name}, flavors
        assert {s.metadata["host"] for s in seen} == {server.host_id}
        of_first = {s.meter for s in seen if s.at == clocks[0].at}
        wrong = (of_first & COUNTERS) ^ self.world.counters
        assert not wrong, f"published, or not: {sorted(wrong)}"
        withheld = {s.volume for s in seen if s.meter == "perf.withheld"}
        assert withheld == {0}, f"withheld: {withheld}"
        coverage = [s.volume for s in seen if s.meter == "perf.coverage"]
        self.row.coverage = f"{min(coverage):.3f}-{max(coverage):.3f}"
        assert 0.9 <= min(coverage) <= max(coverage) <= 1.1, coverage
        counters = self.world.counters
        assert len({s.since for s in seen if s.meter in counters}) == 1
        life = self.life(clocks[-1])
        for each in clocks:
            untrue(each, life)
        self.check_growth(clocks[0], clocks[-1], life)

    def check_growth(self, first: Seen, last: Seen, life: Life) -> None:
        """Assert that it is the CPU time of its QEMU between the two."""
        growth = (last.volume - first.volume) / 1e9
        least, most = life.bounds(first.at), life.bounds(last.at)
        low, high = most[0] - least[1], most[1] - least[0]
        self.row.growth = f"{growth:.2f} s in {low:.2f}-{high:.2f}"
        high += life.stolen(first.at, last.at)
        assert low - SLACK <= growth <= high + SLACK, self.row.growth

    def life(self, seen: Seen) -> Life:
        """The QEMU that a sample is of."""
        found = self.world.witness.life(seen.host, self.uuid, seen.at)
        assert found, f"no QEMU on {seen.host} then"
        return found


def untrue(seen: Seen, life: Life) -> None:
    """Assert that a task_clock is the CPU time of its process."""
    low, high = life.bounds(seen.at)
    used = seen.volume / 1e9
    low, high = low - SLACK - SHARE * low, high + SLACK + SHARE * high
    high += life.stolen(0, seen.at)
    assert low <= used <= high, f"{used:.2f} s, of {low:.2f} to {high:.2f} s"


@dataclass(frozen=True)
class Event:
    """What happens, the status it leads to, and what is published then.

    ``status``: if empty, ``act`` waits itself.
    """

    name: str
    act: Callable[[Story], object]
    status: str
    then: Callable[[Story, float], None]


def continues(story: Story, done: float) -> None:
    """The counters go on, as if nothing had happened."""
    before = story.previous()
    found = story.counted(done)
    assert before is not None
    story.row.published += ", same since"
    assert found[-1].since == before.since, (before.since, found[-1].since)
    assert found[0].volume >= before.volume


def restarts(story: Story, done: float) -> None:
    """The counters are new, and began with the QEMU that is there now."""
    before = story.previous()
    found = story.counted(done)
    story.row.published += ", new since"
    since = found[-1].since
    assert before is None or since != before.since, f"since: still {since}"
    began = datetime.fromisoformat(since).timestamp()
    started = story.life(found[-1]).started
    assert abs(began - started) < STARTED, (began, started)


def counts_itself(story: Story, done: float) -> None:
    """The agent's helper counts, from then on, as libvirt's are not right.

    It has what any machine's kernel counts; the emulated PMU is libvirt's.
    """
    before = story.previous()
    assert before is not None

    def cycles() -> list[Seen]:
        found = story.published(done, meter=TASK_CLOCK)
        return found if len(found) > CYCLES else []

    # The first may have been begun before.
    clocks = story.until(cycles, f"{CYCLES + 1} cycles")[1:]
    story.row.published = f"on {story.host}, new since, source own"
    sources = {each.metadata["perf"]["source"] for each in clocks}
    assert sources == {"own"}, sources
    (since,) = {each.since for each in clocks}
    assert since != before.since, f"since: still {since}"
    sent = {s.meter for s in story.published(done) if s.at == clocks[0].at}
    assert sent >= OWN, f"not published: {sorted(OWN - sent)}"
    # It takes some CPU time to be known.
    seen = story.until(
        lambda: story.published(clocks[0].at, meter="perf.coverage"),
        "its coverage",
    )
    coverage = [each.volume for each in seen]
    story.row.coverage = f"{min(coverage):.3f}-{max(coverage):.3f}"
    assert 0.9 <= min(coverage) <= max(coverage) <= 1.1, coverage
    story.check_growth(clocks[0], clocks[-1], story.life(clocks[-1]))


def stands_still(story: Story, done: float) -> None:
    """The counters are there, and don't grow: no CPU time is used."""
    before = story.previous()
    assert before is not None

    def cycles() -> list[Seen]:
        found = story.published(done, meter=TASK_CLOCK)
        return found if len(found) >= CYCLES else []

    found = story.until(cycles, f"{CYCLES} cycles")
    story.row.published = "same since, no growth"
    assert {each.since for each in found} == {before.since}
    growth = (found[-1].volume - found[0].volume) / 1e9
    assert growth < SLACK, f"{growth:.2f} s"


def silent(story: Story, done: float) -> None:
    """Nothing, in whole cycles of all hosts, which others show.

    Where there are no others, in the time that they usually take.
    """
    samples = story.world.samples
    for compute in story.world.cloud.computes:

        def cycles(host: str = compute.name) -> bool:
            if story.world.witness.is_empty(host):
                return time.monotonic() - done > QUIET
            seen = samples.after(done, host=host, meter=TASK_CLOCK)
            return len({each.at for each in seen}) >= CYCLES

        story.until(cycles, f"{CYCLES} cycles on {compute.name}")
    seen = story.published(done)
    story.row.published = "nothing"
    assert not seen, f"on {seen[0].host}: {sorted({s.meter for s in seen})}"
