# SPDX-License-Identifier: Apache-2.0
"""Ask Prometheus what the panels ask."""

import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import requests

from ceilometer_perf.panels.panel import Dashboard, Panel, Query
from ceilometer_perf.report.answers import (
    POINTS,
    Answers,
    Chosen,
    Collected,
    ReportError,
    Series,
    parse,
    shown,
)

TIMEOUT = 30.0  # seconds
ALL = ".*"
VARIABLES = ("host", "vm", "project")


def promql(query: Query, chosen: Chosen) -> str:
    """The query with its variables filled in."""
    text = query.promql
    for name in VARIABLES:
        value = re.escape(chosen[name]) if name in chosen else ALL
        text = text.replace(
            f'"${name}"', json.dumps(value, ensure_ascii=False)
        )
    return text


def ask(
    url: str, window: float, pages: Iterable[Dashboard], chosen: Chosen
) -> Answers:
    """The last ``window`` seconds; ReportError if it doesn't answer."""
    end = time.time()
    step = max(1.0, round(window / POINTS))
    span = {"start": end - window, "end": end, "step": step}
    collected = Collected()
    with requests.Session() as session:
        missing = collected.missing(pages, lambda panel: panel.prometheus)
        for key, _, panel, query in missing:
            text = promql(query, chosen)
            found = _series(session, url, text, panel, span)
            collected.add(key, panel.kind, found)
    return Answers(
        source=shown(url),
        database="prometheus",
        series=collected.series,
        left_out=collected.left_out,
        **span,
    )


def _series(
    session: requests.Session,
    url: str,
    text: str,
    panel: Panel,
    span: Mapping[str, float],
) -> list[Series]:
    if panel.kind == "top":
        what, parameters = "query", {"time": span["end"]}
    else:
        what, parameters = "query_range", dict(span)
    data = _get(session, f"{url.rstrip('/')}/api/v1/{what}",
                {"query": text, **parameters})  # fmt: skip
    try:
        return parse(data["result"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReportError(
            f"{shown(url)}: the answer is not Prometheus'"
        ) from error


def _get(
    session: requests.Session, url: str, parameters: Mapping[str, Any]
) -> Any:
    try:
        answer = session.get(url, params=parameters, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise ReportError(
            f"{shown(url)}: no answer ({_reason(error)}); --url must be the "
            "address of Prometheus, such as http://localhost:9090"
        ) from error
    try:
        said = answer.json()
        if said["status"] == "success":
            return said["data"]
        reason = said["error"]
    except (ValueError, TypeError, KeyError) as error:
        raise ReportError(
            f"{shown(url)}: not Prometheus, it answers {answer.status_code} "
            f"{answer.reason}"
        ) from error
    raise ReportError(f"{shown(url)}: {reason}")


def _reason(error: BaseException) -> str:
    """The innermost one, which says what happened."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or type(error).__name__
