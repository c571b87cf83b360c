# SPDX-License-Identifier: Apache-2.0
"""What a panel is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Database = Literal["prometheus", "gnocchi"]
Kind = Literal["lines", "stacked", "top"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is counted, in a chart's words and in Grafana's."""

    text: str
    grafana: str


BYTES = Unit("bytes", "bytes")
BYTES_PER_SECOND = Unit("bytes per second", "binBps")
PER_SECOND = Unit("per second", "cps")
SHARE = Unit("share", "percentunit")
PERCENT = Unit("percent", "percent")
CPUS = Unit("CPUs", "short")
NUMBER = Unit("number", "short")
IPC = Unit("instructions per cycle", "none")
MPKI = Unit("misses per 1,000 instructions", "none")
RATIO = Unit("0 to 1", "none")


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and the names of the series in its answer.

    ``legend`` names labels in ``{{}}``. ``$project``, ``$host`` and ``$vm``
    stand for regular expressions. A ``limit`` is drawn as a line above what
    is stacked.
    """

    promql: str
    legend: str
    limit: bool = False

    def key(self, page: "Dashboard", kind: Kind) -> str:
        """Who asks for it on a page finds the answer by this."""
        return self.promql


@dataclass(frozen=True, slots=True)
class Measures:
    """Operations of Gnocchi's dynamic aggregates, on resources `instance`.

    ``group_by`` is an attribute of the resource, ``legend`` names one as
    ``$attribute``. ``$host`` and ``$vm`` stand for one value each,
    ``$interval`` for the seconds between two samples: Gnocchi's rates are
    growth from sample to sample.
    """

    operations: str
    legend: str = "$display_name"
    group_by: str = ""
    limit: ClassVar[bool] = False

    def key(self, page: "Dashboard", kind: Kind) -> str:
        """As that of a query; pages ask the same of other instances.

        And bars ask for the last of what lines ask for.
        """
        return (
            f"{self.operations} where {page.search}"
            + (f" by {self.group_by}" if self.group_by else "")
            + (" now" if kind == "top" else "")
        )


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. Without queries to a database it isn't in its dashboard."""

    title: str
    about: str
    unit: Unit
    prometheus: tuple[Query, ...]
    gnocchi: tuple[Measures, ...] = ()
    kind: Kind = "lines"

    def queries(self, database: Database) -> Sequence[Query | Measures]:
        """Those to one database."""
        return self.prometheus if database == "prometheus" else self.gnocchi


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels on one page.

    ``chosen`` are the variables by which people choose what they see, and
    ``search`` is Gnocchi's filter for it.
    """

    name: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    chosen: tuple[str, ...] = ()
    search: str = ""
