# SPDX-License-Identifier: Apache-2.0
"""What Placement's answers look like, as far as we read them."""

from collections.abc import Mapping
from typing import Any

_TEXT = {"type": "string"}
_COUNT = {"type": "integer"}


def _objects(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "resource_providers": {
        "type": "array",
        "items": _objects(
            uuid={"type": "string", "pattern": "^[0-9a-fA-F-]{32,36}$"},
            name=_TEXT,
            generation=_COUNT,
            parent_provider_uuid={"type": ["string", "null"]},
        ),
    },
    "resource_classes": {"type": "array", "items": _objects(name=_TEXT)},
    "traits": {"type": "array", "items": _TEXT},
    "inventories": {
        "type": "object",
        "additionalProperties": _objects(total=_COUNT, reserved=_COUNT),
    },
    "allocations": {
        "type": "object",
        "additionalProperties": _objects(
            resources={"type": "object", "additionalProperties": _COUNT}
        ),
    },
}


def fault(key: str, value: object) -> str | None:
    """What is wrong in the value under a key, if anything."""
    import jsonschema  # of an extra

    validator = jsonschema.Draft202012Validator(_SCHEMAS[key])
    first = next(validator.iter_errors(value), None)
    return None if first is None else f"{first.json_path}: {first.message}"
