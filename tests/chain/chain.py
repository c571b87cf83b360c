# SPDX-License-Identifier: Apache-2.0
"""All of it: the lab's guests, the agents, the broker, the databases."""

import contextlib
import time
from collections.abc import Callable
from typing import Self

import libvirt

from ceilometer_perf.meters import COVERAGE, SCHED_DELAY
from tests.chain.agents import HOST, Notification, Polling, by_series, said
from tests.chain.errors import ChainError
from tests.chain.gnocchi import Gnocchi
from tests.chain.postgresql import PostgreSQL
from tests.chain.prometheus import Prometheus
from tests.chain.rabbitmq import RabbitMQ
from tests.chain.wire import Wire
from tests.lab import EVENTS, MONITORS, Guest, Lab
from tests.lab.resctrl.hardware import INTEL
from tests.lab.rpc import CountingProxy

FOLDER = "chain"  # in the lab's
IN_PROCESS = "kombu+memory://"  # a broker for nobody
INTERVAL = 2  # seconds
PATIENCE = 180.0  # seconds

RDT_EVENTS = ("cmt", "mbmt", "mbml")
LATE = "alignment_faults"


def guests() -> list[Guest]:
    """One that has all by perf events, one with monitors, one at rest.

    The last lacks an event, which it gets while it runs: it is withheld.
    """
    some = tuple(event for event in EVENTS if event != LATE)
    return [
        Guest("busy-1", "busy", events=EVENTS + RDT_EVENTS),
        Guest("busy-2", "busy", extra=(MONITORS,)),
        Guest("paused-3", "paused", events=some + RDT_EVENTS),
    ]


class Chain:
    """Ends with its block; all that it has on disk is in the lab's folder.

    Without Gnocchi there is neither a broker nor a notification agent: on a
    single host nobody needs them to have Prometheus scrape the agent.
    """

    def __init__(
        self,
        *,
        gnocchi: bool = True,
        prometheus: bool = True,
        interval: int = INTERVAL,
        step: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``interval`` of polling, in seconds; ``step`` hears what is up."""
        self._with_gnocchi = gnocchi
        self._with_prometheus = prometheus
        self._interval = interval
        self._step = step
        self._stack = contextlib.ExitStack()
        self.wire = Wire()
        self.rabbitmq: RabbitMQ | None = None
        self.gnocchi: Gnocchi | None = None
        self.notification: Notification | None = None
        self.prometheus: Prometheus | None = None
        self.polling: Polling
        self.lab: Lab
        self.guests: list[Guest] = []

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _up(self) -> None:
        self._step("Starting libvirtd")
        self.lab = self._stack.enter_context(Lab(fake_pmu=True, resctrl=INTEL))
        folder = self.lab.folder / FOLDER
        folder.mkdir()
        if self._with_gnocchi:
            self._start_gnocchi()
        self._step("Starting guests")
        self.guests = self.lab.start_all(guests())
        proxy = CountingProxy(self.lab.run_dir / "libvirt-sock-ro")
        proxy.on_answer = self.wire.see
        self._stack.enter_context(proxy)
        self.polling = Polling(
            folder / "polling", self.lab, proxy.uri, self._transport,
            self._interval,
        )  # fmt: skip
        self._stack.callback(self.polling.server.stop)
        self._step("Starting ceilometer-polling")
        self.polling.server.start()
        if self._with_prometheus:
            self.prometheus = Prometheus(
                folder / "prometheus", {HOST: self.polling.exporter}
            )
            self._stack.callback(self.prometheus.server.stop)
            self._step("Starting Prometheus")
            self.prometheus.start()
            self.prometheus.server.wait()
        self.polling.server.wait()
        self._step("Enabling an event on a guest that runs")
        self.wait_for_cycles(1)
        if self.gnocchi is not None:
            # The first samples have the publisher make policies, resources
            # and metrics, in each of its threads.
            self.until(self._knows_all, PATIENCE, "all meters in Gnocchi")
        late = self.lab.domain(self.guests[-1])
        late.setPerfEvents({LATE: True}, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def _knows_all(self) -> bool:
        assert self.gnocchi is not None
        known = {g.uuid: self.gnocchi.metrics(g.uuid) for g in self.guests}
        sent = by_series(self.polling.sent())
        return all(name in known[uuid] for uuid, name in sent)

    @property
    def _transport(self) -> str:
        return self.rabbitmq.url if self.rabbitmq else IN_PROCESS

    def _start_gnocchi(self) -> None:
        folder = self.lab.folder / FOLDER
        self.rabbitmq = RabbitMQ(folder / "rabbitmq")
        self._stack.callback(self.rabbitmq.stop)
        self._step("Starting RabbitMQ")
        self.rabbitmq.start()
        postgresql = PostgreSQL(folder / "postgresql")
        self._stack.callback(postgresql.server.stop)
        self._step("Starting PostgreSQL")
        postgresql.start()
        postgresql.create()
        self.gnocchi = Gnocchi(folder / "gnocchi", postgresql)
        self._stack.callback(self.gnocchi.stop)
        self._step("Starting Gnocchi")
        self.gnocchi.start()
        mapping = folder / "gnocchi_resources.yaml"
        Notification.map_meters(mapping)
        self.notification = Notification(
            folder / "notification", self.rabbitmq.url, self.gnocchi.url,
            mapping,
        )  # fmt: skip
        self._stack.callback(self.notification.server.stop)
        self.gnocchi.wait()
        self._step("Telling Gnocchi of Ceilometer's types")
        self.notification.upgrade()
        self.rabbitmq.server.wait()
        self._step("Starting ceilometer-agent-notification")
        self.notification.server.start()

    # What is going on

    def wait_for_cycles(self, cycles: int) -> None:
        """Return when so many more have been sent, of every guest.

        Of one that runs, only those with a coverage, which comes as late as
        its CPU time does. The agent polls the meters in no order: of those
        that need an earlier reading, the first may be in the cycle after.
        """
        before = self._cycles()
        self.until(
            lambda: self._cycles() >= before + cycles,
            PATIENCE + cycles * self._interval,
            f"{cycles} cycles of samples",
        )

    def _cycles(self) -> int:
        """Of how many every guest's slowest meter has been sent."""
        series = by_series(self.polling.sent())
        slowest = {
            guest.uuid: SCHED_DELAY if guest.kind == "paused" else COVERAGE
            for guest in self.guests
        }
        return min(
            len(series.get((uuid, meter.name), []))
            for uuid, meter in slowest.items()
        )

    def stop_polling(self) -> None:
        """End the polling agent, once Prometheus has what it sent last."""
        if self.prometheus is not None:
            newest = max(sent.at for sent in self.polling.sent())
            self.until(
                lambda: self._scraped_at() > newest, PATIENCE, "a scrape"
            )
        self.polling.server.stop()

    def _scraped_at(self) -> float:
        assert self.prometheus is not None
        series = self.prometheus.query("timestamp(up)")
        return float(series[0]["value"][1]) if series else 0.0

    def until(
        self, condition: Callable[[], bool], seconds: float, what: str
    ) -> None:
        """Return once it is true; ChainError when time is up."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise ChainError(
                    f"not within {seconds:.0f} s: {what}; the agent says: "
                    f"{' / '.join(said(self.polling.log)[-3:]) or 'nothing'}"
                )
            time.sleep(0.5)
