# SPDX-License-Identifier: Apache-2.0
"""Who is victim and who is culprit, from the data source of an audit.

Watcher's data sources know metrics by names of their own. Importing this
module adds ours; the file of ``metric_map_path`` may say otherwise.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from oslo_utils import timeutils
from watcher import conf
from watcher.common import exception
from watcher.decision_engine.datasources.gnocchi import GnocchiHelper
from watcher.decision_engine.datasources.prometheus_base import PrometheusBase

from ceilometer_perf import meters

VICTIM = "instance_neighbour_victim"
CULPRIT = "instance_neighbour_culprit"

_METERS = {VICTIM: meters.VICTIM, CULPRIT: meters.CULPRIT}

for _metric, _meter in _METERS.items():
    GnocchiHelper.METRIC_MAP.setdefault(_metric, _meter.name)
    # Of Prometheus and of Aetos, by Ceilometer's exporter.
    PrometheusBase.METRIC_MAP.setdefault(
        _metric, f"ceilometer_{_meter.name.replace('.', '_')}"
    )

# Seconds. A scrape may miss a meter that the agent is about to read.
_FRESH = 120


@dataclass(frozen=True, slots=True)
class Window:
    """Which past counts, in seconds."""

    period: int
    #: Of Gnocchi's measures.
    granularity: int


def lowest(
    source: Any, metric: str, instances: Iterable[Any], window: Window
) -> Mapping[str, float]:
    """The lowest score of each instance in the window, by UUID.

    Who has none of late, or none since the window began, is missing.

    :raises DataSourceNotAvailable: Prometheus doesn't answer.
    """
    if isinstance(source, PrometheusBase):
        return _from_prometheus(source, metric, window)
    return _from_gnocchi(source, metric, instances, window)


def _from_gnocchi(
    source: Any, metric: str, instances: Iterable[Any], window: Window
) -> Mapping[str, float]:
    now = timeutils.utcnow(with_timezone=True)
    start = now - timedelta(seconds=window.period)
    # A measure has the time at which its span began: this span, or the last.
    span = timedelta(seconds=window.granularity)
    fresh = now - 2 * span
    found = {}
    for instance in instances:
        series = source.statistic_series(
            instance,
            "instance",
            metric,
            start_time=start,
            granularity=window.granularity,
        )
        if series and max(series) > fresh and min(series) <= start + span:
            found[instance.uuid] = min(series.values())
    return found


def _from_prometheus(
    source: Any, metric: str, window: Window
) -> Mapping[str, float]:
    """All instances', by one query.

    Watcher's own queries are for the metrics that it knows.
    """
    label = conf.CONF[f"{source.NAME}_client"].instance_uuid_label
    text = query(source.METRIC_MAP[metric], label, window.period)
    found = source.query_retry(source.prometheus.query, text)
    if found is None:
        raise exception.DataSourceNotAvailable(datasource=source.NAME)
    return {
        each.labels[label]: float(each.value)
        for each in found
        if label in each.labels
    }


def query(name: str, label: str, period: int) -> str:
    """In PromQL.

    After a migration there are series of both hosts' agents for a while:
    hence the lowest.
    """
    began = period - _FRESH
    asked = (
        f"min by ({label}) (min_over_time({name}[{period}s]))"
        f" and on ({label}) last_over_time({name}[{_FRESH}s])"
    )
    if began <= 0:  # Prometheus refuses an offset of 0
        return asked
    return (
        f"{asked} and on ({label})"
        f" last_over_time({name}[{_FRESH}s] offset {began}s)"
    )
