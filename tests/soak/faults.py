# SPDX-License-Identifier: Apache-2.0
"""Libvirtd and guests, broken under the real agent."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable

import libvirt

from tests.functional.agent import Agent, wait_for
from tests.lab import Guest, Lab
from tests.lab.rpc import GET_ALL_DOMAIN_STATS, CountingProxy
from tests.soak.measure import (
    CLOCK,
    COUNTERS,
    Seen,
    Spool,
    Truth,
    series,
    usage,
)
from tests.soak.row import Row, Run, of_agent

METERS = ("perf.hw.*", "perf.sw.*", "perf.coverage")


class Trap:
    """Kills libvirtd when the agent's next question passes, or the one after.

    A cycle asks two: who is there, and what they have counted.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._left = 0
        self.snapped = threading.Event()

    def set(self, question: int) -> None:
        """``question``: 1 is the next one."""
        self.snapped.clear()
        self._left = question

    def on_call(self, procedure: int) -> None:
        """For :class:`CountingProxy`."""
        if procedure == GET_ALL_DOMAIN_STATS and self._left:
            self._left -= 1
            if not self._left:
                self._lab.libvirtd.kill(signal.SIGKILL)
                self.snapped.set()


def kill(run: Run, times: int) -> Row:
    """SIGKILL of libvirtd while it is asked, and a boot of the guest after.

    Without the boot there would be nothing to see: its counters are withheld
    from then on.
    """
    lab = run.lab
    guest = lab.start(Guest("busy", "busy"))
    trap = Trap(lab)
    truth = Truth(lab, [guest])
    silences, off = [], []
    with (
        CountingProxy(lab.run_dir / "libvirt-sock-ro") as proxy,
        Agent(run.folder, lab, uri=proxy.uri, meters=METERS) as agent,
        truth.watching(),
    ):
        proxy.on_call = trap.on_call
        spool = Spool(agent)
        spool.wait(0, 3)
        before = usage(agent.process.pid)
        for n in range(times):
            run.step(f"Killing libvirtd within a cycle: {n + 1} of {times}")
            trap.set(1 + n % 2)
            assert trap.snapped.wait(20), "the agent asks no more"
            lab.libvirtd.start()
            up = time.monotonic()
            lab.reboot(guest)
            ready = time.monotonic()
            off.append((up, ready))
            silences.append(spool.wait(ready)[0].at - ready)
        spool.wait(time.monotonic(), 3)
        return of_agent(
            agent,
            before,
            spool.seen(),
            fault=f"libvirtd: SIGKILL in the middle of a cycle, {times} times",
            happened="the cycle under way is lost; the guest's counters are "
            "withheld until its boot, and samples are back "
            f"{max(silences):.1f} s after it at the latest",
            untrue=truth.untrue(spool.seen()),
            amiss=_beyond(max(silences), 2.5, "s until samples are back"),
            off={guest.uuid: off},
        )


def hang(run: Run, seconds: float) -> Row:
    """SIGSTOP of libvirtd."""
    lab = run.lab
    guest = lab.start(Guest("busy", "busy"))
    truth = Truth(lab, [guest])
    with (
        Agent(
            run.folder, lab, meters=METERS, perf="libvirt_timeout = 3"
        ) as agent,
        truth.watching(),
    ):
        spool = Spool(agent)
        spool.wait(0, 3)
        before = usage(agent.process.pid)
        run.step(f"Hanging libvirtd for {seconds:g} s")
        lab.libvirtd.kill(signal.SIGSTOP)
        time.sleep(seconds)
        hung = usage(agent.process.pid)
        lab.libvirtd.kill(signal.SIGCONT)
        goes_on = time.monotonic()
        back = spool.wait(goes_on)[0].at - goes_on
        spool.wait(goes_on, 4)
        return of_agent(
            agent,
            before,
            spool.seen(),
            fault=f"libvirtd: SIGSTOP for {seconds:g} s",
            happened="its cycles are lost (verdict stale), counters go on; "
            f"samples are back {back:.1f} s after SIGCONT; "
            f"{hung.threads - before.threads:+d} threads and "
            f"{hung.descriptors - before.descriptors:+d} descriptors while "
            "it hung",
            untrue=truth.untrue(spool.seen()),
            amiss=[
                *_beyond(back, 5, "s until samples are back"),
                *(line for line in agent.lines() if "detached" in line),
            ],
        )


def socket(run: Run, times: int) -> Row:
    """Its socket is away, it is too, and it was when the agent started."""
    lab = run.lab
    path = lab.run_dir / "libvirt-sock-ro"
    hidden = path.with_name("hidden")
    guest = Guest("busy", "busy")
    truth = Truth(lab, [guest])
    off = []
    lab.libvirtd.kill(signal.SIGKILL)
    with Agent(run.folder, lab, meters=METERS) as agent, truth.watching():
        spool = Spool(agent)
        run.step("Starting the agent without libvirtd")
        wait_for(lambda: agent.lines(), 30, "a line that says so")
        before = usage(agent.process.pid)
        lab.libvirtd.start()
        lab.start(guest)
        started = time.monotonic()
        late = [spool.wait(started)[0].at - started]
        for n in range(times):
            run.step(f"Hiding the socket: {n + 1} of {times}")
            path.rename(hidden)
            spool.wait(time.monotonic(), 3)  # an open connection goes on
            lab.libvirtd.kill(signal.SIGKILL)
            time.sleep(3)
            # A new libvirtd makes its own; the old one leads nowhere.
            lab.libvirtd.start()
            hidden.unlink()
            path.rename(hidden)
            time.sleep(2)
            hidden.rename(path)
            up = time.monotonic()
            lab.reboot(guest)
            started = time.monotonic()
            off.append((up, started))
            late.append(spool.wait(started)[0].at - started)
        spool.wait(time.monotonic(), 2)
        return of_agent(
            agent,
            before,
            spool.seen(),
            fault="libvirtd: started after the agent; socket gone and back, "
            f"{times} times",
            happened="an open connection goes on without the socket's file; "
            "without libvirtd its cycles are lost; samples are back "
            f"{max(late):.1f} s after both are there, at the latest",
            untrue=truth.untrue(spool.seen()),
            amiss=_beyond(max(late), 5, "s until samples are back"),
            off={guest.uuid: off},
        )


def guest(run: Run, seconds: float) -> Row:
    """One QEMU under SIGSTOP among twenty."""
    lab = run.lab
    run.step("Starting 20 guests")
    guests = [Guest(f"paused-{n}", "paused") for n in range(20)]
    lab.start_all(guests)
    hung = guests[0]
    with Agent(run.folder, lab, meters=METERS) as agent:
        spool = Spool(agent)
        spool.wait(0, 2 * len(guests))
        before = usage(agent.process.pid)
        run.step(f"Stopping one of 20 for {seconds:g} s")
        stopped = time.monotonic()
        os.kill(lab.qemu_pid(hung), signal.SIGSTOP)
        time.sleep(seconds)
        goes_on = time.monotonic()
        os.kill(lab.qemu_pid(hung), signal.SIGCONT)
        spool.wait(goes_on, 2 * len(guests))
        others = [s for s in spool.seen() if s.instance != hung.uuid]
        meanwhile = [s for s in others if stopped < s.at < goes_on]
        longest = max(
            b.at - a.at
            for each in series(meanwhile)
            for a, b in itertools.pairwise(each)
        )
        expected = len(COUNTERS) * (len(guests) - 1)
        complete = {
            at: sum(s.at == at for s in meanwhile)
            for at in {s.at for s in meanwhile}
        }
        return of_agent(
            agent,
            before,
            others,
            fault=f"one QEMU of 20: SIGSTOP for {seconds:g} s",
            happened=f"the other 19: {len(complete)} cycles, each with all "
            f"{expected} samples, never more than {longest:.2f} s apart",
            untrue=[],
            amiss=[
                *_beyond(longest, 1.6, "s between two cycles"),
                *(
                    f"{count} samples of {expected} in a cycle"
                    for count in complete.values()
                    if count != expected
                ),
            ],
        )


def restart(run: Run, times: int, hold: float) -> Row:
    """A new libvirtd under busy guests."""
    return _detach(
        run,
        times,
        hold,
        Guest("busy", "busy"),
        lambda guest: run.lab.libvirtd.restart(),
        COUNTERS,
        fault="libvirtd restarted under a busy guest",
    )


def live(run: Run, times: int, hold: float) -> Row:
    """An event enabled on a busy guest: first the clock itself."""

    def enable(guest: Guest) -> None:
        domain = run.lab.domain(guest)
        for affect in (
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
            libvirt.VIR_DOMAIN_AFFECT_CONFIG,
        ):
            domain.setPerfEvents({"task_clock": True}, affect)

    def disable(guest: Guest) -> None:
        run.lab.domain(guest).setPerfEvents(
            {"task_clock": False}, libvirt.VIR_DOMAIN_AFFECT_CONFIG
        )

    return _detach(
        run,
        times,
        hold,
        Guest("busy", "busy", events=("cpu_clock", "cpu_cycles")),
        enable,
        frozenset({CLOCK}),
        fault="an event enabled live on a busy guest",
        before_each=disable,
    )


def _detach(
    run: Run,
    times: int,
    hold: float,
    guest: Guest,
    break_it: Callable[[Guest], None],
    withheld: frozenset[str],
    *,
    fault: str,
    before_each: Callable[[Guest], None] = lambda guest: None,
) -> Row:
    """Break a guest's counters and mend them by a boot, again and again."""
    lab = run.lab
    lab.start(guest)
    truth = Truth(lab, [guest])
    amiss: list[str] = []
    silent = 0.0
    off = []
    with Agent(run.folder, lab, meters=METERS) as agent, truth.watching():
        spool = Spool(agent)
        always = "perf.sw.cpu_clock"
        spool.wait(0, 3, meter=always)
        before = usage(agent.process.pid)
        for n in range(times):
            run.step(f"Breaking counters: {n + 1} of {times}")
            before_each(guest)
            stopped = time.monotonic()
            lab.reboot(guest)
            off.append((stopped, time.monotonic()))
            spool.wait(time.monotonic(), 3, meter=always)
            break_it(guest)
            broken = time.monotonic()
            wait_for(
                lambda n=n: len(_detached(agent)) > n,  # type: ignore[misc]
                30,
                "detached",
            )
            time.sleep(hold)
            rebooting = time.monotonic()
            lab.reboot(guest)
            off.append((broken, time.monotonic()))
            after = spool.wait(time.monotonic(), 3)
            came = [
                s
                for s in spool.seen()
                if broken < s.at < rebooting and s.meter in withheld
            ]
            amiss += [f"{s.meter} came while detached" for s in came]
            amiss += [
                f"{meter} is withheld, too"
                for meter in {s.meter for s in spool.seen()} - withheld
                if meter in COUNTERS
                and not any(
                    s.meter == meter and broken < s.at < rebooting
                    for s in spool.seen()
                )
            ]
            amiss += _same_since(spool.seen(), broken, after)
            silent += rebooting - broken
        return of_agent(
            agent,
            before,
            spool.seen(),
            fault=f"{fault}, {times} times",
            happened=f"detached at once: {len(withheld)} of its "
            f"{len(guest.events)} counters withheld for {silent:.0f} s in "
            "all, each time until the boot; then ok, with a new since",
            untrue=truth.untrue(spool.seen()),
            amiss=amiss,
            off={guest.uuid: off},
        )


def _same_since(
    seen: list[Seen], broken: float, after: list[Seen]
) -> list[str]:
    earlier = {s.since for s in seen if s.at < broken}
    sinces = {s.since for s in after}
    if len(sinces) == 1 and not sinces & earlier:
        return []
    return [f"since after the boot: {sorted(sinces)}"]


def _detached(agent: Agent) -> list[str]:
    return [line for line in agent.lines() if "detached" in line]


def _beyond(value: float, most: float, what: str) -> list[str]:
    return [f"{value:.1f} {what}, not {most:g}"] if value > most else []
