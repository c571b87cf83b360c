# SPDX-License-Identifier: Apache-2.0
"""The strategy ``ceilometer_perf_neighbours``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from oslo_log import log
from watcher.decision_engine.model.element import InstanceState, ServiceState
from watcher.decision_engine.strategy.strategies import base

from ceilometer_perf.watcher import scores
from ceilometer_perf.watcher.scores import CULPRIT, VICTIM, Window

LOG = log.getLogger(__name__)

_METRICS = {"victim": VICTIM, "culprit": CULPRIT}

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "migrate": {
        "description": "Who is migrated: the culprit or the victim",
        "type": "string",
        "enum": ["culprit", "victim"],
        "default": "culprit",
    },
    "victim_threshold": {
        "description": "A victim loses this share of its speed, or more",
        "type": "number",
        "minimum": 0.01,
        "maximum": 1,
        "default": 0.15,
    },
    "culprit_threshold": {
        "description": "A culprit is one as surely as this, or more",
        "type": "number",
        "minimum": 0.01,
        "maximum": 1,
        "default": 0.35,
    },
    "period": {
        "description": "Seconds for which both must have lasted",
        "type": "integer",
        "minimum": 1,
        "default": 600,
    },
    "granularity": {
        "description": "Seconds between two measures in Gnocchi",
        "type": "integer",
        "minimum": 1,
        "default": 300,
    },
}


@dataclass(frozen=True, slots=True)
class Afflicted:
    """A host with victims and culprits, of both the worst first."""

    node: Any
    victim: tuple[Any, ...]
    culprit: tuple[Any, ...]

    def to_migrate(self, role: str) -> Iterator[Any]:
        """Who may be, in the order in which to try them.

        Nobody is a victim of its own.
        """
        other = self.victim if role == "culprit" else self.culprit
        for instance in getattr(self, role):
            if instance.watcher_exclude:
                LOG.info("%s is excluded from the audit", instance.uuid)
            elif any(each.uuid != instance.uuid for each in other):
                yield instance


class Neighbours(base.BaseStrategy):  # type: ignore[misc]
    """Separate instances of which one slows another down.

    *Description*

    On each host with a victim and a culprit, as ceilometer-perf names them,
    one of the two is migrated live to the least used host that has room for
    it, and has no such pair of its own.

    *Requirements*

    The meters ``perf.neighbour.victim`` and ``perf.neighbour.culprit`` in
    Gnocchi, or in Prometheus or Aetos from Ceilometer's exporter.

    *Limitations*

    One migration from a host, and one to a host, in each audit.
    """

    DATASOURCE_METRICS = (VICTIM, CULPRIT)

    @classmethod
    def get_name(cls) -> str:
        """As audits ask for it."""
        return "ceilometer_perf_neighbours"

    @classmethod
    def get_display_name(cls) -> str:
        """For people."""
        return "Separate victims and culprits"

    @classmethod
    def get_translatable_display_name(cls) -> str:
        """Not translated."""
        return cls.get_display_name()

    @classmethod
    def get_goal_name(cls) -> str:
        """One of Watcher's."""
        return "noisy_neighbor"

    @classmethod
    def get_schema(cls) -> dict[str, Any]:
        """Of the audit's parameters."""
        return {"properties": {k: dict(v) for k, v in PARAMETERS.items()}}

    def pre_execute(self) -> None:
        """Make sure that there is a model."""
        self._pre_execute()

    def do_execute(self, audit: Any = None) -> None:
        """Add a migration for each host that needs and finds one."""
        defaults = {name: p["default"] for name, p in PARAMETERS.items()}
        self._asked = {**defaults, **self.input_parameters}
        afflicted = self._afflicted()
        targets = self._targets(without={each.node.uuid for each in afflicted})
        for each in afflicted:
            self._relieve(each, targets)

    def post_execute(self) -> None:
        """Hand over the model as it will be."""
        self.solution.model = self.compute_model

    def _nodes(self) -> list[Any]:
        return list(self.compute_model.get_all_compute_nodes().values())

    def _running(self, node: Any) -> list[Any]:
        return [
            each
            for each in self.compute_model.get_node_instances(node)
            if each.state == InstanceState.ACTIVE.value
        ]

    def _afflicted(self) -> list[Afflicted]:
        """Those with both; the one with the worst victim first."""
        hosts = [(node, self._running(node)) for node in self._nodes()]
        culprits = self._scores("culprit", hosts)
        suspected = [
            (node, instances)
            for node, instances in hosts
            if _ranked(instances, culprits)
        ]
        victims = self._scores("victim", suspected)
        found = [
            Afflicted(
                node, _ranked(instances, victims), _ranked(instances, culprits)
            )
            for node, instances in suspected
        ]
        return sorted(
            (each for each in found if each.victim),
            key=lambda each: -victims[each.victim[0].uuid],
        )

    def _scores(
        self, role: str, hosts: list[tuple[Any, list[Any]]]
    ) -> dict[str, float]:
        """Of those at the threshold or above."""
        asked = self._asked
        instances = [each for _, running in hosts for each in running]
        if not instances:
            return {}
        found = scores.lowest(
            self.datasource_backend,
            _METRICS[role],
            instances,
            Window(asked["period"], asked["granularity"]),
        )
        if not found:
            LOG.warning(
                "%s has had no perf.neighbour.%s of any instance of late",
                self.datasource_backend.NAME,
                role,
            )
        threshold = asked[f"{role}_threshold"]
        return {uuid: s for uuid, s in found.items() if s >= threshold}

    def _targets(self, without: set[str]) -> list[Any]:
        return [
            node
            for node in self._nodes()
            if node.uuid not in without
            and node.state == ServiceState.ONLINE.value
            and node.status == ServiceState.ENABLED.value
        ]

    def _relieve(self, afflicted: Afflicted, targets: list[Any]) -> None:
        """Migrate one away, to one of the targets, which is none then."""
        role = self._asked["migrate"]
        for instance in afflicted.to_migrate(role):
            rooms = [node for node in targets if self._fits(instance, node)]
            if rooms:
                target = min(rooms, key=self._used)
                targets.remove(target)
                self._migrate(instance, afflicted.node, target)
                return
            LOG.info("No host has room for the %s %s", role, instance.uuid)

    def _fits(self, instance: Any, node: Any) -> bool:
        free = self.compute_model.get_node_free_resources(node)
        return bool(
            free["vcpu"] >= instance.vcpus
            and free["memory"] >= instance.memory
            and free["disk"] >= instance.disk
        )

    def _used(self, node: Any) -> tuple[float, str]:
        used = self.compute_model.get_node_used_resources(node)
        return used["vcpu"] / node.vcpu_capacity, node.hostname

    def _migrate(self, instance: Any, source: Any, target: Any) -> None:
        self.compute_model.migrate_instance(instance, source, target)
        self.add_action_migrate(instance, "live", source, target)
        LOG.info(
            "The %s %s shall leave %s for %s",
            self._asked["migrate"],
            instance.uuid,
            source.hostname,
            target.hostname,
        )


def _ranked(
    instances: list[Any], scored: Mapping[str, float]
) -> tuple[Any, ...]:
    """Those with a score, the highest first."""
    return tuple(
        sorted(
            (each for each in instances if each.uuid in scored),
            key=lambda each: (-scored[each.uuid], each.uuid),
        )
    )
