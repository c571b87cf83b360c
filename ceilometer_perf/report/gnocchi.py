# SPDX-License-Identifier: Apache-2.0
"""Ask Gnocchi what the panels ask.

With the credentials that Ceilometer has for it in its ceilometer.conf.
"""

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from oslo_config import cfg

from ceilometer_perf import openstack
from ceilometer_perf.panels.panel import Dashboard, Measures, Panel
from ceilometer_perf.report.answers import (
    POINTS,
    Answers,
    Chosen,
    Collected,
    Point,
    ReportError,
    Series,
    shown,
)
from ceilometer_perf.report.gnocchi_resources import RATE_POLICY, RESOURCE_TYPE

LABELS = ("id", "display_name", "host", "project_id")
RECENT = 3  # spans in which a bar's value may be
#: Ceilometer's, of ``ceilometer.keystone_client``.
AUTH_SECTION = cfg.StrOpt("auth_section", default="service_credentials")
INTERFACE = cfg.StrOpt("interface", default="public")
#: A dashboard's filter.
SEARCH = re.compile(r"(\w+) (=|like) '\$(\w+)'")
#: How Gnocchi writes durations.
LENGTH = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class _NotKeptError(Exception):
    """A metric is not kept in spans of this length; its name."""


def connect(conf: cfg.ConfigOpts, url: str | None) -> openstack.Api:
    """A client; nothing is sent yet.

    ``url`` takes the place of the endpoint that the catalog has.

    :raises ReportError: the credentials lead nowhere.
    """
    conf.register_opt(AUTH_SECTION, group="gnocchi")
    group = conf.gnocchi.auth_section
    section = f"[{group}] of ceilometer.conf"
    if url is not None and url != shown(url):
        raise ReportError(f"--url: user and password belong in {section}")
    service = openstack.Service(
        "Gnocchi",
        "metric",
        section,
        _detail,
        {
            401: f"are the credentials in {section} right?",
            403: f"has the user in {section} the admin role?",
            404: "does the endpoint lead to Gnocchi?",
        },
    )
    conf.register_opts([*openstack.opts(service), INTERFACE], group=group)
    arguments = {} if url is None else {"endpoint_override": url}
    try:
        return openstack.connect(
            conf, group, service, "ceilometer-agent-notification", **arguments
        )
    except openstack.ServiceError as error:
        raise ReportError(f"ceilometer.conf: {error}") from error


def _detail(answer: Any) -> object:
    said = answer["description"]
    if isinstance(said, dict):
        return ", ".join(f"{key}: {value}" for key, value in said.items())
    return said


def ask(
    api: openstack.Api,
    pages: Sequence[Dashboard],
    chosen: Chosen,
    *,
    window: float,
    interval: float,
    granularity: float | None,
) -> Answers:
    """The last ``window`` seconds, in the spans that are over.

    Spans of ``granularity`` seconds, or of what suits the window best;
    samples are ``interval`` seconds apart.

    :raises ReportError: it doesn't answer, or has no such spans.
    """
    values = {**chosen, "interval": f"{interval:g}"}
    missing = []
    try:
        for step in _steps(_kept(api), window, interval, granularity):
            span = _span(window, step)
            try:
                found = _all(api, pages, values, span)
            except _NotKeptError as error:
                missing.append(f"{error} with granularity {step:g} s")
                continue
            return Answers(
                source=f"{_endpoint(api)}, for samples every {interval:g} s",
                database="gnocchi",
                series=found.series,
                left_out=found.left_out,
                **span,
            )
    except openstack.ServiceError as error:
        raise ReportError(str(error)) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ReportError(
            f"{_endpoint(api)}: the answer is not Gnocchi's"
        ) from error
    raise ReportError(
        f"Gnocchi does not keep, for every instance, {', '.join(missing)}: "
        "give a --granularity that all have, or exclude those with another "
        "archive policy by --host, --instance or --project"
    )


def _endpoint(api: openstack.Api) -> str:
    return shown(api.ksa.get_endpoint() or "Gnocchi")


def _kept(api: openstack.Api) -> set[float]:
    """Seconds of the spans that archive policies have."""
    return {
        _seconds(definition["granularity"])
        for policy in api.ask("GET", "/v1/archive_policy", kind=list)
        for definition in policy["definition"]
    }


def _seconds(length: str) -> float:
    match = LENGTH.fullmatch(length)
    if match is None:
        raise ValueError(length)
    days, hours, minutes, seconds = (float(n or 0) for n in match.groups())
    return timedelta(
        days=days, hours=hours, minutes=minutes, seconds=seconds
    ).total_seconds()


def _steps(
    kept: set[float], window: float, interval: float, wanted: float | None
) -> list[float]:
    """The spans to ask for, those first that suit a chart best.

    Not one that is shorter than the interval: Gnocchi has no rate where the
    value before is not in the span before, and lines would be dots.
    """
    if wanted is not None and wanted not in kept:
        raise ReportError(
            f"--granularity {wanted:g}: must be one of Gnocchi's archive "
            f"policies', {_listed(kept)}"
        )
    fit = [
        step
        for step in (kept if wanted is None else {wanted})
        if interval <= step <= window / 2
    ]
    if not fit:
        raise ReportError(
            f"a report needs a granularity from {interval:g} s (--interval) "
            f"to {window / 2:g} s (half of --window); Gnocchi's archive "
            f"policies have {_listed(kept)}"
        )
    return sorted(fit, key=lambda s: abs(math.log(s * POINTS / window)))


def _listed(spans: Iterable[float]) -> str:
    return ", ".join(f"{span:g} s" for span in sorted(spans)) or "none"


def _span(window: float, step: float) -> dict[str, float]:
    """Of time, without the span that isn't over.

    That one lacks the instances that are yet to be polled in it.
    """
    end = (time.time() // step - 1) * step
    return {"start": end - (window // step - 1) * step, "end": end,
            "step": step}  # fmt: skip


def _all(
    api: openstack.Api,
    pages: Iterable[Dashboard],
    values: Mapping[str, str],
    span: Mapping[str, float],
) -> Collected:
    collected = Collected()
    missing = collected.missing(pages, lambda panel: panel.gnocchi)
    for key, page, panel, measures in missing:
        found = _series(
            api,
            _body(page, measures, values, span),
            _parameters(panel, measures, span),
        )
        collected.add(key, panel.kind, found)
    return collected


def _body(
    page: Dashboard,
    measures: Measures,
    values: Mapping[str, str],
    span: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "resource_type": RESOURCE_TYPE,
        "search": search(page.search, values, span["start"]),
        "operations": measures.operations.replace(
            "$interval", values["interval"]
        ),
    }


def search(
    text: str, values: Mapping[str, str], since: float
) -> dict[str, Any]:
    """A dashboard's filter for those who were there; all, where no choice is.

    As JSON, into which a value can be put whatever letters it has.
    """
    there = {
        "or": [
            {"=": {"ended_at": None}},
            {">=": {"ended_at": _iso(since)}},
        ]
    }
    match = SEARCH.fullmatch(text)
    if match is None:
        raise ReportError(f"unsupported filter: {text}")
    attribute, operator, name = match.groups()
    if name not in values:
        return there
    return {"and": [{operator: {attribute: values[name]}}, there]}


def _parameters(
    panel: Panel, measures: Measures, span: Mapping[str, float]
) -> dict[str, Any]:
    """As Grafana's plugin has them: nothing is put where a value misses."""
    start = span["start"]
    if panel.kind == "top":
        start = max(start, span["end"] - (RECENT - 1) * span["step"])
    parameters = {
        "start": _iso(start),
        "stop": _iso(span["end"] + span["step"]),
        "granularity": span["step"],
        "fill": "null",
        "needed_overlap": 0,
    }
    if measures.group_by:
        return parameters | {"groupby": measures.group_by}
    return parameters | {"details": "true"}  # the names


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _series(
    api: openstack.Api, body: Mapping[str, Any], parameters: Mapping[str, Any]
) -> list[Series]:
    grouped = "groupby" in parameters
    try:
        answer = api.ask(
            "POST",
            "/v1/aggregates",
            body,
            parameters,
            kind=list if grouped else dict,
        )
    except openstack.ServiceError as error:
        if _is_none(error, body["operations"]):
            return []
        raise
    series = _of_groups(answer) if grouped else _of_instances(answer)
    return [each for each in series if each.points]


def _is_none(error: openstack.ServiceError, operations: str) -> bool:
    """Whether it means that no instance has the metric.

    :raises _NotKeptError: one isn't kept in spans of that length.
    :raises ReportError: one isn't kept with that aggregation.
    """
    said = (error.answer or {}).get("description")
    if not isinstance(said, dict):
        return error.status == 404 and isinstance(said, str)
    if said.get("reason") == "Granularities are missing":
        raise _NotKeptError(said["detail"][0][0])
    if said.get("cause") == "Metrics with unknown aggregation":
        (_, aggregation), *_ = said["detail"]
        raise ReportError(
            f"Gnocchi has no {aggregation} for {operations}: map the meter "
            f"to an archive policy that has it, such as {RATE_POLICY}; "
            "existing metrics keep theirs"
        )
    return False


def _of_groups(answer: Any) -> list[Series]:
    return [
        Series(
            _labels(each["group"]),
            _points(each["measures"]["measures"]["aggregated"]),
        )
        for each in answer
    ]


def _of_instances(answer: Any) -> list[Series]:
    labels = {
        each["id"]: {"display_name": each["id"], **_labels(each)}
        for each in answer["references"]
    }
    return [
        Series(labels[instance], _points(measured))
        for instance, metrics in answer["measures"].items()
        for aggregations in metrics.values()
        for measured in aggregations.values()
    ]


def _labels(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(attributes[name])
        for name in LABELS
        if attributes.get(name) is not None
    }


def _points(measured: Any) -> list[Point]:
    """Those with a value; a counter that began again has no growth."""
    return [
        (datetime.fromisoformat(at).timestamp(), float(value))
        for at, _, value in measured
        if value is not None and 0 <= value < math.inf
    ]
