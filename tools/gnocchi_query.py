# SPDX-License-Identifier: Apache-2.0
"""Queries of Grafana's plugin for Gnocchi, which its SDK does not know."""

import dataclasses
from typing import Any

from grafana_foundation_sdk.cog import builder, runtime, variants

PLUGIN = "gnocchixyz-gnocchi-datasource"

VARIABLES = {
    "host": "resources(instance, $host, host, ended_at = null)",
    "vm": "resources(instance, $display_name, id, host = '$host')",
}
"""How it lists what there is to choose from."""


@dataclasses.dataclass(frozen=True)
class GnocchiQuery(variants.Dataquery):
    """What the plugin stores of one; the names are its own."""

    refId: str  # noqa: N815
    operations: str
    resource_search: str
    groupby: str
    label: str
    queryMode: str = "dynamic_aggregates"  # noqa: N815
    resource_type: str = "instance"
    # The plugin draws nothing for what is missing, as we do.
    fill: str = "null"
    needed_overlap: int = 0
    draw_missing_datapoint_as_zero: bool = False
    reaggregator: str = "none"
    granularity: str = ""
    metric_name: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the dashboard's file has it."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Builder(builder.Builder[GnocchiQuery]):
    """What the SDK's panels take a query from."""

    query: GnocchiQuery

    def build(self) -> GnocchiQuery:
        """The query."""
        return self.query


def register() -> None:
    """Have the SDK read such queries too."""
    runtime.register_dataquery_variant(
        runtime.DataqueryConfig(
            identifier=PLUGIN, from_json_hook=lambda data: GnocchiQuery(**data)
        )
    )
