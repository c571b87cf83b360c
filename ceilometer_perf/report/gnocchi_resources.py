# SPDX-License-Identifier: Apache-2.0
"""gnocchi_resources.yaml: our meters among those that Gnocchi gets.

Text in, text out. Lines are put in, and none is changed: comments, order and
spelling are the operator's.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ceilometer_perf.meters import METERS, Meter

NAME = "gnocchi_resources.yaml"
CORE = f"publisher/data/{NAME}"
"""Where Ceilometer's package has its own."""

RESOURCE_TYPE = "instance"
RATE_POLICY = "ceilometer-low-rate"
"""Of core's policies, the one with ``rate:mean``, for what only grows."""

KEY = "archive_policy_name"
MOST_ENTRIES = 100_000  # core's file has a few hundred
MAX_WIDTH = 10_000  # of a line, so that a name is never folded


class MappingError(Exception):
    """A file that can't be merged; ``line`` counts from 1."""

    def __init__(self, line: int, what: str) -> None:
        """Keep the line apart, for callers that know the file's name."""
        super().__init__(what)
        self.line = line


@dataclass(frozen=True, slots=True)
class Policies:
    """Names of archive policies; no name is the file's own default."""

    rate: str = RATE_POLICY
    gauge: str | None = None

    def of(self, meter: Meter) -> str | None:
        """The policy that a meter gets."""
        return self.rate if meter.type == "cumulative" else self.gauge

    def named(self) -> tuple[str, ...]:
        """Those that must be there."""
        return (self.rate, self.gauge) if self.gauge else (self.rate,)


@dataclass(frozen=True, slots=True)
class Merged:
    """The result: the text, the new meters in it, warnings."""

    text: str
    added: tuple[str, ...]
    warnings: tuple[str, ...]


def merge(text: str, policies: Policies) -> Merged:
    """Map every meter that no resource type maps to ``instance``.

    Metrics that are mapped already keep their policy.

    :raises MappingError: it isn't YAML, or not of the file's shape.
    """
    before = _load(text)
    mapped = {name for each in _resources(before) for name in _names(each)}
    missing = [meter for meter in METERS if meter.name not in mapped]
    after = text
    if missing:
        metrics = _metrics(yaml.compose(text, _Composer))
        after = _insert(text, metrics, missing, policies)
        _check(before, after, missing, policies)
    return Merged(
        after,
        tuple(meter.name for meter in missing),
        tuple(_warnings(before, policies)) if missing else (),
    )


class _Composer(yaml.SafeLoader):
    """Nodes that end where their text does, aliases too."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        node: Any = super().compose_node(parent, index)
        if not isinstance(event, yaml.AliasEvent):
            return node
        alias = copy.copy(node)  # stands where the anchored node doesn't
        alias.start_mark, alias.end_mark = event.start_mark, event.end_mark
        alias.flow_style = True
        return alias


def _load(text: str) -> Any:
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _count(node, {})
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise MappingError(
            mark.line + 1 if mark else 1, f"not YAML: {error.problem}"
        ) from error
    except RecursionError as error:
        raise MappingError(
            1, "not YAML: it is nested too deeply or in itself"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise MappingError(1, f"not YAML: {error}") from error


def _count(node: Any, known: dict[int, int]) -> int:
    """How many entries a node has with all that its aliases stand for."""
    number = known.get(id(node))
    if number is None:
        number = 1
        if isinstance(node, yaml.CollectionNode):
            for item in node.value:
                for each in item if isinstance(item, tuple) else (item,):
                    number += _count(each, known)
        known[id(node)] = number
        if number > MOST_ENTRIES:
            raise MappingError(
                node.start_mark.line + 1,
                f"its aliases expand to more than {MOST_ENTRIES} entries: "
                "write them out",
            )
    return number


def _resources(found: Any) -> list[Any]:
    """The resource types."""
    listed = found.get("resources") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(each, dict) for each in listed
    ):
        raise MappingError(
            1,
            "it must have a list of resources at its top, as in core's "
            f"{NAME}",
        )
    return listed


def _names(resource: Mapping[str, Any]) -> list[str]:
    """What a resource type maps, as a list or a mapping."""
    metrics = resource.get("metrics")
    return list(map(str, metrics)) if isinstance(metrics, dict | list) else []


def _metrics(root: Any) -> yaml.MappingNode:
    """The metrics of ``instance``, with room for lines."""
    for resource in _value(root, "resources").value:
        kind = _value(resource, "resource_type")
        if kind is not None and kind.value == RESOURCE_TYPE:
            return _block(_value(resource, "metrics"), resource)
    raise MappingError(
        root.start_mark.line + 1,
        f"no resource_type {RESOURCE_TYPE} in resources: add it, as in "
        f"core's {NAME}",
    )


def _block(metrics: Any, resource: yaml.Node) -> yaml.MappingNode:
    if isinstance(metrics, yaml.MappingNode) and not metrics.flow_style:
        return metrics
    raise MappingError(
        (metrics or resource).start_mark.line + 1,
        f"the metrics of resource_type {RESOURCE_TYPE} must be written as "
        "'NAME:', one per line",
    )


def _value(mapping: Any, key: str) -> Any:
    """The node of a key in a mapping."""
    found = [v for k, v in mapping.value if k.value == key]
    return found[-1] if found else None


def _insert(
    text: str,
    metrics: yaml.MappingNode,
    meters: list[Meter],
    policies: Policies,
) -> str:
    """Their lines after the last one of a mapping."""
    eol = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    at = _last_line(metrics) + 1
    if not lines[at - 1].endswith(("\n", "\r")):
        lines[at - 1] += eol
    indent = " " * metrics.start_mark.column
    ours = [
        indent + line + eol for m in meters for line in _lines(m, policies)
    ]
    return "".join([*lines[:at], *ours, *lines[at:]])


def _last_line(node: Any) -> int:
    """Where a node's own text ends, which its end mark is far behind."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        end = node.end_mark
        # What ends at the start of a line has ended on the one before.
        return int(end.line - (end.column == 0 and end.index > 0))
    last = node.value[-1]
    children = last if isinstance(last, tuple) else (last,)
    return max(map(_last_line, children))


def _lines(meter: Meter, policies: Policies) -> Iterator[str]:
    yield f"{meter.name}:"
    policy = policies.of(meter)
    if policy is not None:
        yield "  " + yaml.safe_dump({KEY: policy}, width=MAX_WIDTH).strip()


def _check(
    before: Any, after: str, meters: list[Meter], policies: Policies
) -> None:
    """Check that everything else is unchanged, and ours are there."""
    expected = copy.deepcopy(before)
    metrics = _instances(expected)[0]["metrics"]
    for meter in meters:
        policy = policies.of(meter)
        metrics[meter.name] = policy and {KEY: policy}
    if _load(after) != expected:
        raise MappingError(
            1, "its layout can't be preserved: add them by hand"
        )


def _warnings(found: Mapping[str, Any], policies: Policies) -> Iterator[str]:
    """What Ceilometer or Gnocchi would treat differently from the request."""
    defined = {
        str(each.get("name")): map(str, _list(each, "aggregation_methods"))
        for each in _list(found, "archive_policies")
        if isinstance(each, dict)
    }
    for name in policies.named():
        if name not in defined:
            yield (
                f"archive policy {name} is not among the file's "
                "archive_policies: unless Gnocchi has it, nothing is stored"
            )
    methods = defined.get(policies.rate, ["rate:"])
    if not any(method.startswith("rate:") for method in methods):
        yield (
            f"archive policy {policies.rate} has no rate aggregation "
            "method: the growth of counters can't be queried"
        )
    if any("archive_policy" in each for each in _instances(found)):
        yield (
            f"archive_policy of resource_type {RESOURCE_TYPE} overrides "
            "those of its metrics: remove it"
        )


def _list(found: Mapping[str, Any], key: str) -> list[Any]:
    listed = found.get(key) or []
    if not isinstance(listed, list):
        raise MappingError(1, f"{key} must be a list, as in core's {NAME}")
    return listed


def _instances(found: Any) -> list[Any]:
    return [
        each
        for each in _resources(found)
        if each.get("resource_type") == RESOURCE_TYPE
    ]
