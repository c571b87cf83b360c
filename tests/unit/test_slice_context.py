# SPDX-License-Identifier: Apache-2.0
"""The instance that a template may speak of, as JSON."""

import json
from typing import Any

import pytest

from ceilometer_perf import guest
from ceilometer_perf.slices import context
from ceilometer_perf.slices.errors import InstanceError
from ceilometer_perf.slices.spec import SliceSpec
from tests.unit.slice_cases import instance

SPEC = SliceSpec("half", "CUSTOM_A", "half.xml", "whole")


def refusal(document: Any) -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(InstanceError) as caught:
        context.parse(text, "--instance-json a.json")
    message = str(caught.value)
    assert message.startswith("--instance-json a.json: ")
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_the_sample() -> None:
    text = json.dumps(context.SAMPLE)
    assert context.parse(text, "") == context.SAMPLE
    assert context.parse(text.encode(), "") == context.SAMPLE


def test_what_is_added() -> None:
    asked = guest.Requirements(
        perf_events=("cpu_clock",),
        pmu=True,
        locked=True,
        realtime=guest.Realtime(frozenset({1, 2}), frozenset({0}), 3),
    )
    full = context.full(context.SAMPLE, SPEC, asked)
    assert full["slice"] == {
        "name": "half",
        "resource_class": "CUSTOM_A",
        "parent": "whole",
    }
    assert full["requirements"] == {
        "perf_events": ["cpu_clock"],
        "pmu": True,
        "locked": True,
        "realtime": {
            "vcpus": "1-2",
            "housekeeping": "0",
            "priority": 3,
            "emulator_threads": None,
        },
    }
    assert full["instance"] == context.SAMPLE["instance"]
    assert json.loads(json.dumps(full)) == full
    nothing = context.full(context.SAMPLE, SPEC, guest.Requirements())
    assert nothing["requirements"]["realtime"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"vcpus": "4"},
            "instance.vcpus: '4' is not of type 'integer'; expected",
        ),
        ({"vcpus": 0}, "instance.vcpus: 0 is less than"),
        ({"vcpus": True}, "instance.vcpus: True is not"),
        ({"vcpus": 10**9}, "instance.vcpus"),
        ({"uuid": "x"}, "expected: a UUID"),
        ({"uuid": None}, "instance.uuid: None is not"),
        ({"name": ""}, "instance.name"),
        ({"name": "a\x00"}, "instance.name has a character"),
        ({"display_name": "a\ud800"}, "instance.display_name has a"),
        ({"display_name": "x" * 10000 + "\x1b"}, "instance.display_name has"),
        ({"vcpus": "x" * 10000}, "instance.vcpus"),
        ({"colour": "red"}, "instance: Additional properties"),
        ({"flavor": {"id": "1", "name": "a"}}, "'extra_specs' is a required"),
        (
            {"flavor": {"id": "1", "name": "a", "extra_specs": {"k": 1}}},
            "instance.flavor.extra_specs.k: 1 is not of type 'string'",
        ),
    ],
)
def test_refusals(change: dict[str, Any], said: str) -> None:
    assert said in refusal(instance(**change))


def test_refusals_in_lists() -> None:
    document = instance()
    del document["disks"][0]["bus"]
    assert "disks[0]: 'bus' is a required" in refusal(document)
    document = instance()
    document["interfaces"][0]["mac"] = "fa:16"
    assert "interfaces[0].mac: 'fa:16'" in refusal(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "[" * 100000,
        "1" * 100000,
        '"' + "x" * 2**20,
    ],
)
def test_no_instance(text: str) -> None:
    refusal(text)


def test_no_text() -> None:
    with pytest.raises(InstanceError, match="not JSON"):
        context.parse(b"\xff\xfe\xff", "a")
