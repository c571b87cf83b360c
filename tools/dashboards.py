# SPDX-License-Identifier: Apache-2.0
"""Write the Grafana dashboards of etc/grafana out of the table of panels.

Run it after every change to ceilometer_perf/panels: a test holds the files
to it. Who edits a dashboard in Grafana exports it from there; these are
where to begin.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    timeseries,
)
from grafana_foundation_sdk.builders import prometheus as promql
from grafana_foundation_sdk.cog import encoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from ceilometer_perf.panels.panel import Dashboard, Measures, Panel, Query
from ceilometer_perf.panels.table import DASHBOARDS
from tools import gnocchi_query

ETC = Path(__file__).parents[1] / "etc" / "grafana"
PROMETHEUS, GNOCCHI = "prometheus", "gnocchi"
PLUGINS = {PROMETHEUS: "prometheus", GNOCCHI: gnocchi_query.PLUGIN}
WIDTH, HEIGHT = 12, 9  # of 24 columns; a row is 30 pixels

Visual = bargauge.Panel | timeseries.Panel


def main() -> None:
    """Write all of them."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    ETC.mkdir(exist_ok=True)
    for path, text in files():
        path.write_text(text)
        sys.stdout.write(f"{path}\n")


def files() -> Iterator[tuple[Path, str]]:
    """What belongs into etc/grafana."""
    for kind in PLUGINS:
        for page in DASHBOARDS:
            path = ETC / f"{kind}-{page.name}.json"
            yield path, _json(_dashboard(page, kind))


def _json(made: models.Dashboard) -> str:
    text = json.dumps(made, cls=encoder.JSONEncoder, indent=2, sort_keys=True)
    return f"{text}\n"


def _source(kind: str) -> models.DataSourceRef:
    return models.DataSourceRef(type_val=PLUGINS[kind], uid="${datasource}")


def _dashboard(page: Dashboard, kind: str) -> models.Dashboard:
    made = (
        dashboard.Dashboard(f"{page.title} ({kind.title()})")
        .uid(f"ceilometer-perf-{kind}-{page.name}")
        .description(page.about)
        .tags(["ceilometer-perf", "openstack", kind])
        .time("now-6h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Hardware use")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["ceilometer-perf", kind])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Data source")
            .type(PLUGINS[kind])
        )
    )
    for variable in _variables(page, kind):
        made = made.with_variable(variable)
    for number, panel in enumerate(_shown(page, kind), start=1):
        made = made.with_panel(_panel(panel, kind, page).id(number))
    return made.build()


def _shown(page: Dashboard, kind: str) -> list[Panel]:
    return [panel for panel in page.panels if getattr(panel, kind)]


def _variables(
    page: Dashboard, kind: str
) -> Iterator[dashboard.QueryVariable | dashboard.TextBoxVariable]:
    for name in page.chosen:
        if kind == PROMETHEUS:
            yield _chosen(name)
        elif name in gnocchi_query.VARIABLES:
            yield _one_of(name, gnocchi_query.VARIABLES[name])
        else:
            yield dashboard.TextBoxVariable(name).default_value("%")
    if kind == GNOCCHI:
        yield (
            dashboard.TextBoxVariable("interval")
            .label("Polling interval (s)")
            .default_value("60")
        )


# By which query Prometheus lists what there is to choose from.
_VMS = (
    "query_result(group by (resource, resource_name) "
    '(vm:perf_cpus:rate10m{instance=~"$host"}))'
)
_CHOICES = {
    "project": "label_values(vm:perf_cpus:rate10m, project)",
    "host": "label_values(vm:perf_cpus:rate10m, instance)",
    "vm": _VMS,
}
# What of its answer is the value, and what is shown for it.
_PARTS = {
    "vm": r'/resource="(?<value>[^"]+)".*resource_name="(?<text>[^"]+)"/',
}


def _chosen(name: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .datasource(_source(PROMETHEUS))
        .query(_CHOICES[name])
        .regex(_PARTS.get(name, ""))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _one_of(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .datasource(_source(GNOCCHI))
        .query(query)
        .refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _panel(panel: Panel, kind: str, page: Dashboard) -> Visual:
    made = _bars() if panel.kind == "top" else _lines(panel, kind)
    made = (
        made.title(panel.title)
        .description(panel.about)
        .datasource(_source(kind))
        .unit(panel.unit.grafana)
        .span(WIDTH)
        .height(HEIGHT)
    )
    letters = "ABCDEFGH"
    if kind == PROMETHEUS:
        for letter, query in zip(letters, panel.prometheus, strict=False):
            made = made.with_target(_query(query, letter, panel))
    else:
        for letter, measures in zip(letters, panel.gnocchi, strict=False):
            made = made.with_target(_measures(measures, letter, page))
    return made


def _bars() -> bargauge.Panel:
    return (
        bargauge.Panel()
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .min(0)
    )


def _lines(panel: Panel, kind: str) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .show_legend(True)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .axis_soft_min(0)
    )
    if panel.kind != "stacked":
        return made
    made = made.fill_opacity(40).stacking(
        common.StackingConfig().mode(common_models.StackingMode.NORMAL)
    )
    if kind == PROMETHEUS:
        for letter, query in zip("ABCDEFGH", panel.prometheus, strict=False):
            if query.limit:
                made = made.override_by_query(letter, _LIMIT)
    return made


_LIMIT = [
    models.DynamicConfigValue("custom.stacking", {"mode": "none"}),
    models.DynamicConfigValue("custom.fillOpacity", 0),
    models.DynamicConfigValue(
        "custom.lineStyle", {"fill": "dash", "dash": [10, 10]}
    ),
    models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "red"}),
]


def _query(query: Query, letter: str, panel: Panel) -> promql.Dataquery:
    made = (
        promql.Dataquery()
        .expr(query.promql)
        .legend_format(query.legend)
        .ref_id(letter)
        .datasource(_source(PROMETHEUS))
    )
    return made.instant() if panel.kind == "top" else made.range()


def _measures(
    measures: Measures, letter: str, page: Dashboard
) -> gnocchi_query.Builder:
    return gnocchi_query.Builder(
        gnocchi_query.GnocchiQuery(
            refId=letter,
            operations=measures.operations,
            resource_search=page.search,
            groupby=measures.group_by,
            label=measures.legend,
        )
    )


if __name__ == "__main__":
    main()
