# SPDX-License-Identifier: Apache-2.0
"""Guests that come and go, pause, boot and are renamed while polled."""

import dataclasses
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import libvirt

from tests.functional.agent import Agent
from tests.lab import Guest, Lab
from tests.lab.guests import NOVA_URI
from tests.soak.measure import Seen, Spool, slope, usage
from tests.soak.row import Row, Run, of_agent

SEED = 20260101
MOST = 10  # guests at once
WARM = 0.2  # of the cycles: until memory is what it will be
SLOPE = 8.0  # KiB a cycle; an instance that is kept takes more than that
UNDER_WAY = 1.0  # seconds that a cycle may take

METERS = ("perf.hw.*", "perf.sw.*", "perf.coverage", "perf.derived.*")


@dataclass
class Life:
    """Of a guest; it is being started until it is ``ready``."""

    began: float
    ready: float = float("inf")
    ended: float = float("inf")


@dataclass
class Crowd:
    """The guests of a lab, and when each of them ran."""

    lab: Lab
    chance: random.Random
    guests: list[Guest] = field(default_factory=list)
    lives: dict[str, list[Life]] = field(
        default_factory=lambda: defaultdict(list)
    )
    done: Counter[str] = field(default_factory=Counter)
    made: int = 0

    def act(self) -> None:
        """Do something to somebody."""
        acts: list[Callable[[Guest], None]] = [
            self.pause, self.resume, self.reboot, self.rename, self.stop,
            self.start, self.retitle, self.remove,
        ]  # fmt: skip
        if len(self.guests) < MOST and self.chance.random() < 0.3:
            self.create()
            return
        if self.guests:
            act = self.chance.choice(acts)
            act(self.chance.choice(self.guests))
            self.done[act.__name__] += 1

    def create(self) -> None:
        self.made += 1
        kind = "paused" if self.chance.random() < 0.8 else "idle"
        guest = Guest(f"guest-{self.made}", kind)  # type: ignore[arg-type]
        self._begin(guest, lambda: self.lab.start(guest))
        self.guests.append(guest)
        self.done["create"] += 1

    def remove(self, guest: Guest) -> None:
        self.stop(guest)
        self.lab.domain(guest).undefine()
        self.guests.remove(guest)

    def stop(self, guest: Guest) -> None:
        runs = self._runs(guest)
        self.lab.destroy(guest)
        if runs:
            self.lives[guest.uuid][-1].ended = time.monotonic()

    def start(self, guest: Guest) -> None:
        if not self._runs(guest):
            self._begin(guest, self.lab.domain(guest).create)

    def reboot(self, guest: Guest) -> None:
        self.stop(guest)
        self.start(guest)

    def pause(self, guest: Guest) -> None:
        if self.lab.domain(guest).state()[0] == libvirt.VIR_DOMAIN_RUNNING:
            self.lab.domain(guest).suspend()

    def resume(self, guest: Guest) -> None:
        if self.lab.domain(guest).state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            self.lab.domain(guest).resume()

    def rename(self, guest: Guest) -> None:
        """libvirt's name, which it changes only while a guest is off."""
        self.stop(guest)
        name = f"renamed-{self.chance.randrange(10**6)}"
        self.lab.domain(guest).rename(name)
        self.guests.remove(guest)
        renamed = dataclasses.replace(guest, domain=name)
        self.guests.append(renamed)
        self.start(renamed)

    def retitle(self, guest: Guest) -> None:
        """Nova's name."""
        domain, element = (
            self.lab.domain(guest),
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
        )
        noted = domain.metadata(element, NOVA_URI)
        where = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        if self._runs(guest):
            where |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        title = f"<name>{guest.name} of {self.chance.random()}</name>"
        head, _, tail = noted.partition("<name>")
        text = f"{head}{title}{tail.partition('</name>')[2]}"
        domain.setMetadata(element, text, "nova", NOVA_URI, where)

    def gone(self, seen: list[Seen]) -> list[Seen]:
        """Samples of who did not run, the cycle under way apart."""
        return [
            each
            for each in seen
            if not any(
                life.began <= each.at <= life.ended + UNDER_WAY
                for life in self.lives[each.instance]
            )
        ]

    def off(self) -> dict[str, list[tuple[float, float]]]:
        """When each did not run."""
        return {
            uuid: [(a.ended, b.ready) for a, b in itertools.pairwise(lives)]
            for uuid, lives in self.lives.items()
        }

    def _runs(self, guest: Guest) -> bool:
        return bool(self.lab.domain(guest).isActive())

    def _begin(self, guest: Guest, start: Callable[[], object]) -> None:
        life = Life(time.monotonic())
        self.lives[guest.uuid].append(life)
        start()
        life.ready = time.monotonic()


def churn(run: Run, cycles: int, seed: int = SEED) -> Row:
    """An act or two a second, for that many cycles of the agent's."""
    crowd = Crowd(run.lab, random.Random(seed))
    for _ in range(MOST // 2):
        crowd.create()
    with Agent(run.folder, run.lab, meters=METERS) as agent:
        spool = Spool(agent)
        spool.wait(0)
        before = usage(agent.process.pid)
        started = time.monotonic()
        memory = []
        while (passed := time.monotonic() - started) < cycles:
            run.step(f"Churning (seed {seed}): {passed:.0f} of {cycles} s")
            crowd.act()
            time.sleep(crowd.chance.random())
            if passed >= WARM * cycles:
                now = usage(agent.process.pid)
                memory.append((passed, float(now.rss_kib)))
                if len(memory) == 1:
                    before = now
        grows = slope(memory)
        gone = crowd.gone(spool.seen())
        done = ", ".join(f"{n} {act}" for act, n in sorted(crowd.done.items()))
        return of_agent(
            agent,
            before,
            spool.seen(),
            fault=f"guests changed at random for {cycles} cycles "
            f"(seed {seed}: {done})",
            happened="no exception, no sample of who is gone; RSS slope "
            f"{grows:+.2f} KiB a cycle after the first "
            f"{WARM:.0%}",
            untrue=[f"{s.meter} of {s.instance}, gone" for s in gone],
            amiss=[f"{grows:.1f} KiB a cycle"]
            if cycles >= 100 and grows > SLOPE
            else [],
            off=crowd.off(),
        )
