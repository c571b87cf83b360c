# SPDX-License-Identifier: Apache-2.0
"""Audits by Watcher's decision engine, in a process of its own.

Its database is SQLite, its messages go nowhere. Made up are the model of the
cluster, which Watcher would build from Nova's answers, and Nova's aggregates.
"""

import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jsonschema
from watcher import conf, objects
from watcher.common import context, exception, nova_helper, rpc, utils
from watcher.db.sqlalchemy import migration
from watcher.decision_engine import sync
from watcher.decision_engine.audit import base as handler
from watcher.decision_engine.audit import oneshot
from watcher.decision_engine.datasources import prometheus_base
from watcher.decision_engine.model import element, model_root
from watcher.decision_engine.model.collector import nova as collector

from ceilometer_perf.watcher import scores, strategy
from tests.unit.watcher_world import NOW, Asked, Planned, World

CONF = conf.CONF
NAME = strategy.Neighbours.get_name()


def start(folder: str, url: str) -> None:
    """Its configuration and database."""
    path = Path(folder) / "watcher.conf"
    host, port = url.removeprefix("http://").split(":")
    path.write_text(f"""
[DEFAULT]
transport_url = fake://
notification_level =
[database]
connection = sqlite:///{folder}/watcher.sqlite
[watcher_clients_auth]
auth_type = none
endpoint = {url}
[watcher_decision_engine]
metric_map_path =
[watcher_datasources]
query_max_retries = 1
query_interval = 0
[prometheus_client]
host = {host}
port = {port}
""")
    # Watcher reads its command line again when it loads a strategy.
    sys.argv[1:] = ["--config-file", str(path)]
    CONF(project="watcher")
    rpc.init(CONF)
    objects.register_all()
    migration.create_schema()
    # As the decision engine does when it starts.
    sync.Syncer().sync()


def audit(world: World, asked: Asked) -> Planned:
    """As ``openstack optimize audit create`` has it done."""
    CONF.set_override("datasources", [asked.datasource], "watcher_datasources")
    ctx = context.make_context()
    wanted = objects.Strategy.get_by_name(ctx, NAME)
    made = objects.Audit(
        ctx,
        uuid=str(uuid.uuid4()),
        name=str(uuid.uuid4()),
        audit_type=objects.audit.AuditType.ONESHOT.value,
        state=objects.audit.State.PENDING,
        parameters=dict(asked.parameters),
        interval=None,
        goal_id=wanted.goal_id,
        strategy_id=wanted.id,
        scope=[dict(each) for each in asked.scope],
        auto_trigger=False,
        force=True,
    )
    made.create()
    nova = mock.Mock()
    nova.get_aggregate_list.return_value = aggregates(world)
    cluster = model(world)
    now = SimpleNamespace(utcnow=lambda **_: NOW)
    with (
        mock.patch.object(
            collector.NovaClusterDataModelCollector,
            "get_latest_cluster_data_model",
            return_value=cluster,
        ),
        mock.patch.object(nova_helper, "NovaHelper", return_value=nova),
        mock.patch.object(scores, "timeutils", now),
        mock.patch.object(handler.LOG, "exception") as error,
    ):
        oneshot.OneShotAuditHandler().execute(made, ctx)
    left = migrations(made, ctx)
    for instance, (_, target) in left.items():
        # What Watcher's model is once that is done.
        assert cluster.get_node_by_instance_uuid(instance).hostname == target
    return Planned(
        made.state,
        left,
        " ".join(map(str, error.call_args.args)) if error.called else "",
    )


def migrations(
    audit: Any, ctx: context.RequestContext
) -> dict[str, tuple[str, str]]:
    """Where each instance leaves, and where it goes."""
    plans = objects.ActionPlan.list(ctx, filters={"audit_id": audit.id})
    actions = [
        action
        for plan in plans
        for action in objects.Action.list(
            ctx, filters={"action_plan_id": plan.id}
        )
    ]
    for action in actions:
        assert action.action_type == "migrate"
        assert action.input_parameters["migration_type"] == "live"
    return {
        action.input_parameters["resource_id"]: (
            action.input_parameters["source_node"],
            action.input_parameters["destination_node"],
        )
        for action in actions
    }


def model(world: World) -> model_root.ModelRoot:
    made = model_root.ModelRoot()
    for name, host in world.hosts.items():
        made.add_node(
            element.ComputeNode(
                uuid=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
                hostname=name,
                state=host.state,
                status=host.status,
                disabled_reason=None,
                vcpus=host.vcpus,
                vcpu_reserved=0,
                vcpu_ratio=1.0,
                memory=host.memory,
                memory_mb_reserved=0,
                memory_ratio=1.0,
                disk=host.disk,
                disk_gb_reserved=0,
                disk_ratio=1.0,
            )
        )
    for id_, guest in world.guests.items():
        instance = element.Instance(
            uuid=id_,
            name=id_[:8],
            state=guest.state,
            vcpus=guest.vcpus,
            memory=guest.memory,
            disk=guest.disk,
            metadata={},
            project_id=guest.project,
            watcher_exclude=False,
        )
        made.add_instance(instance)
        made.map_instance(instance, made.get_node_by_name(guest.host))
    return made


def aggregates(world: World) -> list[SimpleNamespace]:
    names = {host.aggregate for host in world.hosts.values()}
    return [
        SimpleNamespace(
            id=number,
            name=name,
            hosts=[n for n, h in world.hosts.items() if h.aggregate == name],
        )
        for number, name in enumerate(sorted(names))
    ]


def query(period: int) -> str:
    """What Prometheus is asked of culprits."""
    name = prometheus_base.PrometheusBase.METRIC_MAP[scores.CULPRIT]
    return scores.query(
        name, CONF.prometheus_client.instance_uuid_label, period
    )


def is_valid(parameters: dict[str, Any]) -> bool:
    """As Watcher's API checks those of an audit."""
    schema = strategy.Neighbours.get_schema()
    validator = utils.StrictDefaultValidatingDraft4Validator(schema)
    try:
        validator.validate(parameters)
    except (jsonschema.ValidationError, exception.AuditParameterNotAllowed):
        return False
    return True


def imported() -> set[str]:
    return {name.partition(".")[0] for name in sys.modules}


def defaults() -> dict[str, Any]:
    return {n: p["default"] for n, p in strategy.PARAMETERS.items()}
