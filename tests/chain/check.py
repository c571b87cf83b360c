# SPDX-License-Identifier: Apache-2.0
"""Hold what came out of Gnocchi and Prometheus against what went in.

Not the newest value alone: all that the agent sent. What libvirt gave, what
the agent sent and what the databases have are equal to the last bit, with
one exception: the CPU time in `perf.coverage` is the kernel's, which libvirt
can only be asked for at another moment.
"""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Protocol

import libvirt
from lxml import etree

from ceilometer_perf.meters import (
    COVERAGE,
    ENERGY,
    METERS,
    PRESSURES,
    VICTIM,
    Meter,
)
from tests.chain import agents
from tests.chain.agents import Sent, by_series
from tests.chain.chain import Chain
from tests.chain.errors import ChainError
from tests.chain.expected import Expected, Given, timestamp
from tests.chain.gnocchi import Gnocchi
from tests.chain.prometheus import Scraped
from tests.lab import Lab

#: What `perf.coverage` may be off by, as its documentation says.
COVERAGE_PRECISION = 0.05

# Spans of Gnocchi's. One of a second has one sample, and so its value; a rate
# needs one in which the value before it is, too.
VALUES = 1  # seconds
RATES = 60  # seconds

# A sample says when it was read, and that is when libvirt told the agent.
LATE = 0.5  # seconds

# What times are rounded to.
TICK = 0.01  # seconds

PATIENCE = 180.0  # seconds until Gnocchi has all

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}


class HasMeasures(Protocol):
    """See :class:`tests.chain.gnocchi.Gnocchi`."""

    def metrics(self, uuid: str) -> Mapping[str, str]:
        """Ids by name."""

    def measures(
        self, metric: str, aggregation: str, span: int
    ) -> Mapping[float, float]:
        """Values by time."""


Pending = Mapping[tuple[str, str], Set[float]]
"""By instance UUID and meter: the seconds of samples on their way."""


@dataclass(frozen=True)
class Rate:
    """Mean growth from one sample to the next, in the last whole minute."""

    libvirt: float | None
    gnocchi: float | None


@dataclass(frozen=True)
class Row:
    """A meter of an instance; the values are of one sample.

    It is the newest that all have. None is no value, which is right where
    libvirt has none either, or where that database is left out. ``samples``
    is how many were compared, ``amiss`` the differences.
    """

    meter: str
    instance: str
    unit: str
    samples: int
    libvirt: float | None
    gnocchi: float | None
    prometheus: float | None
    rate: Rate | None
    amiss: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether all is as it was given."""
        return not self.amiss


def check(chain: Chain) -> list[Row]:
    """A row for each meter and guest; polling must have ended."""
    sent = by_series(chain.polling.sent())
    metrics: Mapping[str, Mapping[str, str]] = {}
    if chain.gnocchi is not None:
        _wait_for(chain.gnocchi, chain, sent)
        metrics = {g.uuid: chain.gnocchi.metrics(g.uuid) for g in chain.guests}
    expected = Expected(chain.wire, _l3(chain.lab), _coverage(chain))
    took = chain.prometheus.durations() if chain.prometheus else {}
    return [
        row
        for meter in METERS
        for row in _rows(chain, meter, sent, expected, metrics, took)
    ]


def missing(rows: Sequence[Row]) -> list[str]:
    """The meters of which no guest had a value."""
    seen = {row.meter for row in rows if row.libvirt is not None}
    # The lab's guests have no cgroups of their own, its CPUs no energy, and no
    # chain is watched for as long as a verdict takes.
    demanded = {*METERS} - {*PRESSURES.values(), *ENERGY, VICTIM}
    return sorted(each.name for each in demanded if each.name not in seen)


def _wait_for(gnocchi: Gnocchi, chain: Chain, sent: agents.Series) -> None:
    """Return when metricd has done all that was sent, or time is up.

    What has not come by then is for the comparison to find.
    """
    # Not the newest of each series alone: the notification agent has many
    # threads, and no order among them.
    pending: Pending = {
        series: {int(timestamp(each.sample)) for each in samples}
        for series, samples in sent.items()
    }

    def done() -> bool:
        nonlocal pending
        if not gnocchi.backlog():
            pending = outstanding(gnocchi, pending)
        return not pending

    with contextlib.suppress(ChainError):
        chain.until(done, PATIENCE, "all in Gnocchi")


def outstanding(gnocchi: HasMeasures, pending: Pending) -> Pending:
    """The series that lack a sample still."""
    uuids = {uuid for uuid, _ in pending}
    metrics = {uuid: gnocchi.metrics(uuid) for uuid in uuids}
    return {
        (uuid, name): times
        for (uuid, name), times in pending.items()
        if (metric := metrics[uuid].get(name)) is None
        or times - gnocchi.measures(metric, "mean", VALUES).keys()
    }


def _rows(
    chain: Chain,
    meter: Meter,
    sent: agents.Series,
    expected: Expected,
    metrics: Mapping[str, Mapping[str, str]],
    took: Mapping[float, float],
) -> Iterator[Row]:
    scraped: Mapping[str, Sequence[Scraped]] = {}
    if chain.prometheus is not None:
        scraped = chain.prometheus.scraped(meter.name, took)
    for guest in chain.guests:
        series = sent.get((guest.uuid, meter.name), [])
        found = Series(
            meter, [expected.given(meter, sent, s.sample) for s in series],
            series,
        )  # fmt: skip
        if chain.gnocchi is not None:
            metric = metrics[guest.uuid].get(meter.name)
            found.look_into_gnocchi(chain.gnocchi, metric)
        if chain.prometheus is not None:
            found.look_into_prometheus(scraped.get(guest.uuid, []), max(took))
        yield found.row(guest.name)


class Series:
    """One series, and what is found of it at the other ends."""

    def __init__(
        self,
        meter: Meter,
        given: Sequence[Given],
        sent: Sequence[Sent],
    ) -> None:
        """``given``: by libvirt, for each sample that was sent."""
        self._meter = meter
        self._given = given
        self._sent = sent
        self._amiss: list[str] = []
        self._newest = len(sent) - 1  # of those that all have
        self._gnocchi: Mapping[float, float] | None = None
        self._rate: Rate | None = None
        self._scraped: Sequence[Scraped] | None = None
        for told, each in zip(given, sent, strict=True):
            volume = each.sample["counter_volume"]
            if not self._same(told.value, volume):
                self._say(each, f"sent {volume}, libvirt gave {told.value}")
            late = timestamp(each.sample) - told.at
            if late > LATE:
                self._say(each, f"libvirt gave this {late:.1f} s earlier")

    def look_into_gnocchi(
        self, gnocchi: HasMeasures, metric: str | None
    ) -> None:
        """Every value, and every minute's mean growth."""
        if metric is None:
            self._gnocchi = {}
            if self._sent:
                self._amiss.append("Gnocchi has no such metric")
            return
        self._gnocchi = gnocchi.measures(metric, "mean", VALUES)
        self._compare(_means(self._points(), VALUES), self._gnocchi, "mean")
        if self._meter.type == "cumulative":
            rates = gnocchi.measures(metric, "rate:mean", RATES)
            grown = _means(_growth(self._points()), RATES)
            self._compare(grown, rates, "rate:mean")
            last = max(grown, default=0.0)
            self._rate = Rate(grown.get(last), rates.get(last))

    def look_into_prometheus(
        self, scraped: Sequence[Scraped], last: float
    ) -> None:
        """Each scrape shows the sample that was sent last before it.

        The ``last`` of them all may have been before the series' first sample.
        """
        self._scraped = scraped
        if self._sent and self._sent[0].until + TICK < last and not scraped:
            self._amiss.append("Prometheus has no such series")
        for each in scraped:
            shown = [
                index
                for index in range(len(self._sent))
                if self._may_show(index, each)
            ]
            if shown:
                self._newest = max(shown)
            else:
                self._amiss.append(f"Prometheus has {each.value}, not sent")

    def row(self, instance: str) -> Row:
        """What it comes to."""
        base = Row(
            self._meter.name, instance, self._meter.unit, len(self._sent),
            None, None, None, self._rate, tuple(self._amiss),
        )  # fmt: skip
        if not self._sent:
            return base
        sample = self._sent[self._newest].sample
        return dataclasses.replace(
            base,
            libvirt=self._given[self._newest].value,
            gnocchi=(self._gnocchi or {}).get(float(int(timestamp(sample)))),
            prometheus=self._scraped[-1].value if self._scraped else None,
        )

    def _points(self) -> list[tuple[float, float]]:
        return [
            (timestamp(each.sample), each.sample["counter_volume"])
            for each in self._sent
        ]

    def _may_show(self, index: int, scrape: Scraped) -> bool:
        """Whether a scrape may show this sample: not too early, nor late."""
        if self._sent[index].sample["counter_volume"] != scrape.value:
            return False
        following = self._sent[index + 1 : index + 2]
        return self._sent[
            index
        ].at < scrape.at + scrape.seconds + TICK and all(
            scrape.at < each.until + TICK for each in following
        )

    def _same(self, given: float | None, sent: float) -> bool:
        if given is None:
            return False
        if self._meter == COVERAGE:
            return abs(given - sent) <= COVERAGE_PRECISION
        return given == sent

    def _compare(
        self,
        ours: Mapping[float, float],
        theirs: Mapping[float, float],
        what: str,
    ) -> None:
        for at, value in ours.items():
            if theirs.get(at) != value:
                self._amiss.append(
                    f"Gnocchi's {what} of {_clock(at)} is {theirs.get(at)}, "
                    f"sent {value}"
                )
        for at in theirs.keys() - ours.keys():
            self._amiss.append(f"Gnocchi's {what} of {_clock(at)}: not sent")

    def _say(self, sent: Sent, what: str) -> None:
        self._amiss.append(f"{_clock(timestamp(sent.sample))}: {what}")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).time().isoformat("milliseconds")


def _means(
    points: Iterable[tuple[float, float]], span: int
) -> dict[float, float]:
    """Of each span that has points, by its beginning."""
    spans: dict[float, list[float]] = defaultdict(list)
    for at, value in points:
        spans[at // span * span].append(value)
    return {at: sum(values) / len(values) for at, values in spans.items()}


def _growth(
    points: Iterable[tuple[float, float]],
) -> Iterator[tuple[float, float]]:
    for (_, before), (at, value) in pairwise(points):
        yield at, value - before


def _l3(lab: Lab) -> int:
    """Bytes of all L3 caches, by libvirt's capabilities."""
    capabilities = etree.fromstring(lab.connection.getCapabilities())
    banks = capabilities.iterfind("./host/cache/bank[@level='3']")
    return sum(
        int(bank.get("size", "")) * UNITS[bank.get("unit", "")]
        for bank in banks
    )


def _coverage(chain: Chain) -> Mapping[str, float]:
    """Time on a CPU that libvirt counted, of the CPU time it knows of."""
    asked = libvirt.VIR_DOMAIN_STATS_PERF | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    return {
        domain.UUIDString(): stats["perf.task_clock"] / stats["cpu.time"]
        for domain, stats in chain.lab.connection.getAllDomainStats(asked)
    }
