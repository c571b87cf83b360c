# SPDX-License-Identifier: Apache-2.0
"""What a template may use: the instance, its slice, its requirements.

The first half comes as JSON from the caller (``SCHEMA`` says
what it may hold, ``SAMPLE`` is one); the rest is added here. A template sees::

    instance    name, display_name, uuid, created, vcpus, memory_mib,
                project (id, name), user (id, name),
                flavor (id, name, extra_specs), image (id, properties)
    disks       of each: type, source, format, target, bus
    interfaces  of each: type, source, target, mac, model, mtu
    slice       name, resource_class, parent
    requirements  perf_events, pmu, locked, realtime (vcpus, housekeeping,
                priority, emulator_threads)
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ceilometer_perf import cpus, guest
from ceilometer_perf.slices.errors import InstanceError
from ceilometer_perf.slices.spec import SliceSpec

Context = Mapping[str, Any]


def _object(*optional: str, **properties: Any) -> dict[str, Any]:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [key for key in properties if key not in optional],
        "additionalProperties": False,
    }


def _text(means: str, pattern: str = "") -> dict[str, Any]:
    return {"type": "string", "pattern": pattern, "description": means}


def _whole(means: str, least: int, most: int) -> dict[str, Any]:
    kind = {"type": "integer", "minimum": least, "maximum": most}
    return {**kind, "description": means}


_UUID = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_PAIRS = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "description": "each key with its value as text",
}
_MOST_MIB = 1 << 40

INSTANCE = _object(
    name=_text("libvirt's name, such as instance-0000002a", "."),
    display_name=_text("the user's name for it"),
    uuid=_text("a UUID", _UUID),
    created=_text("when, such as 2026-01-31 12:00:00"),
    vcpus=_whole("the flavor's vCPUs", 1, cpus.LIMIT),
    memory_mib=_whole("the flavor's memory in MiB", 1, _MOST_MIB),
    project=_object(id=_text("the project's id"), name=_text("its name")),
    user=_object(id=_text("the user's id"), name=_text("its name")),
    flavor=_object(
        id=_text("the flavor's id"),
        name=_text("its name"),
        extra_specs=_PAIRS,
    ),
    image=_object(id=_text("the image's id, or nothing"), properties=_PAIRS),
)
DISK = _object(
    type=_text("one of libvirt's, such as file or block", "."),
    source=_text("the path of the file or device", "."),
    format=_text("one of QEMU's, such as raw or qcow2", "."),
    target=_text("the guest's device, such as vda", "."),
    bus=_text("as virtio", "."),
)
INTERFACE = _object(
    "mtu",
    type=_text("one of libvirt's, such as bridge or ethernet", "."),
    source=_text("the bridge, or nothing"),
    target=_text("the host's device, such as tap0123abcd-45, or nothing"),
    mac=_text("as fa:16:3e:00:00:01", "^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"),
    model=_text("as virtio, or nothing"),
    mtu=_whole("in bytes", 68, 65535),
)
SCHEMA = _object(
    instance=INSTANCE,
    disks={"type": "array", "items": DISK},
    interfaces={"type": "array", "items": INTERFACE},
)

#: The instance to render templates for before there is one.
SAMPLE: Context = {
    "instance": {
        "name": "instance-00000001",
        "display_name": "sample",
        "uuid": "3e2d5c1a-7f64-4b0d-9a53-5d2a4c6b8e01",
        "created": "2026-01-01 00:00:00",
        "vcpus": 1,
        "memory_mib": 1024,
        "project": {
            "id": "c1a5b7d93e0f4a6f8b2d4c6e8f0a1b3c",
            "name": "sample",
        },
        "user": {
            "id": "d2b6c8ea4f105b709c3e5d7f901b2c4d",
            "name": "sample",
        },
        "flavor": {
            "id": "e3c7d9fb-5021-4c81-8d4f-6e80a12c3d5e",
            "name": "sample",
            "extra_specs": {},
        },
        "image": {
            "id": "f4d8ea0c-6132-4d92-9e50-7f91b23d4e6f",
            "properties": {},
        },
    },
    "disks": [
        {
            "type": "file",
            "source": "/var/lib/nova/instances/sample/disk",
            "format": "raw",
            "target": "vda",
            "bus": "virtio",
        }
    ],
    "interfaces": [
        {
            "type": "bridge",
            "source": "br-int",
            "target": "tap00000000-01",
            "mac": "fa:16:3e:00:00:01",
            "model": "virtio",
            "mtu": 1500,
        }
    ],
}

MAX_BYTES = 1 << 20
#: What XML can't contain, however it is written.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse(text: str | bytes, source: str) -> Context:
    """The JSON of an instance; ``source`` names it in errors.

    :raises InstanceError: names the key, and what it should hold.
    """
    import jsonschema  # of an extra

    if len(text) > MAX_BYTES:
        raise InstanceError(f"{source}: more than {MAX_BYTES} bytes")
    try:
        found = json.loads(text)
        bad = next(_illegal(found, ""), None)
        if bad is not None:
            raise InstanceError(
                f"{source}: {bad} has a character that XML does not allow; "
                "remove it"
            )
        jsonschema.Draft202012Validator(SCHEMA).validate(found)
    except jsonschema.ValidationError as error:
        raise InstanceError(f"{source}: {_told(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InstanceError(f"{source}: not JSON: {error}") from error
    return dict(found)


def _told(error: Any) -> str:
    steps = (f"[{s}]" if isinstance(s, int) else f".{s}" for s in error.path)
    where = "".join(steps).lstrip(".") or "the top level"
    right = error.schema.get("description")
    words = error.message if len(error.message) < 200 else error.validator
    return f"{where}: {words}" + (f"; expected: {right}" if right else "")


def _illegal(value: Any, where: str) -> Iterator[str]:
    """Where a text can't be written in XML."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _illegal(key, f"a key of {where or 'the top level'}")
            yield from _illegal(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _illegal(item, f"{where}[{index}]")
    elif isinstance(value, str) and _NOT_XML.search(value):
        yield _NOT_XML.sub("?", where)


def asked(context: Context) -> guest.Asked:
    """What the companion is to look at."""
    instance = context["instance"]
    return guest.Asked(
        vcpus=instance["vcpus"],
        flavor=instance["flavor"]["extra_specs"],
        image=instance["image"]["properties"],
    )


def full(
    context: Context, spec: SliceSpec, requirements: guest.Requirements
) -> Context:
    """Everything that the template of a slice may use."""
    return {
        **context,
        "slice": {
            "name": spec.name,
            "resource_class": spec.resource_class,
            "parent": spec.conflict_parent,
        },
        "requirements": {
            "perf_events": list(requirements.perf_events),
            "pmu": requirements.pmu,
            "locked": requirements.locked,
            "realtime": _realtime(requirements.realtime),
        },
    }


def _realtime(realtime: guest.Realtime | None) -> Context | None:
    if realtime is None:
        return None
    return {
        "vcpus": cpus.text(realtime.vcpus),
        "housekeeping": cpus.text(realtime.housekeeping),
        "priority": realtime.priority,
        "emulator_threads": realtime.emulator_threads,
    }
