# SPDX-License-Identifier: Apache-2.0
"""Nova takes what the page of realtime guests tells to set."""

import itertools
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from nova.api.validation.extra_specs import validators
from nova.compute import provider_config
from nova.conf import scheduler
from nova.objects import image_meta

from ceilometer_perf import guest

PAGE = Path(__file__).parents[2] / "doc" / "source" / "realtime-guests.rst"
TEXT = PAGE.read_text()
BLOCK = re.compile(
    r"^\.\. code-block:: (\w+)\n(?:   :caption: (.+)\n)?\n"
    r"((?:(?:   .*)?\n)+)",
    re.MULTILINE,
)
BLOCKS = [
    (kind, name, textwrap.dedent(text))
    for kind, name, text in BLOCK.findall(TEXT)
]


def properties(command: str) -> dict[str, str]:
    """What a command of the page sets."""
    found = (text for _, _, text in BLOCKS if text.startswith(command))
    words = shlex.split(next(found).replace("\\\n", ""))
    given = [
        value
        for option, value in itertools.pairwise(words)
        if option == "--property"
    ]
    return {k: v for k, _, v in (pair.partition("=") for pair in given)}


FLAVOR = properties("openstack flavor create")
IMAGE = properties("openstack image set")


@pytest.mark.parametrize(("name", "value"), FLAVOR.items())
def test_nova_knows_each_extra_spec(name: str, value: str) -> None:
    validators.validate(name, value)
    assert name in validators.VALIDATORS or name.startswith("trait:")


def test_nova_knows_each_image_property() -> None:
    known = image_meta.ImageMetaProps.fields
    assert set(IMAGE) <= set(known)
    image_meta.ImageMetaProps.from_dict(IMAGE)


def test_the_tables_keys_are_novas() -> None:
    rows = TEXT.partition("what happens if both are set")[2]
    rows = rows.partition("Without a mask")[0]
    specs = set(re.findall(r"``(hw:\w+)", rows))
    assert specs <= set(validators.VALIDATORS)
    assert specs >= {n for n in FLAVOR if n.startswith("hw:")}
    in_image = set(re.findall(r"``(hw_\w+)", rows))
    assert in_image <= set(image_meta.ImageMetaProps.fields)
    # "(none)" of an image is true, too.
    for spec in "hw_cpu_realtime", "hw_emulator_threads_policy":
        assert spec not in image_meta.ImageMetaProps.fields


def test_the_flavor_and_the_image_fit_together() -> None:
    found = guest.resolve(guest.Asked(4, FLAVOR, IMAGE))
    assert found.realtime is not None
    # The image's mask replaces the flavor's.
    assert found.realtime.vcpus == {2, 3}
    assert found.pmu is False
    assert found.locked


def test_nova_reads_the_providers_file(tmp_path: Path) -> None:
    text = next(text for kind, _, text in BLOCKS if kind == "yaml")
    (tmp_path / "realtime.yaml").write_text(text)
    found = provider_config.get_provider_configs(str(tmp_path))
    assert found["$COMPUTE_NODE"]["traits"]["additional"] == [
        "CUSTOM_REALTIME"
    ]


def test_the_schedulers_option_is_novas() -> None:
    (text,) = (t for k, name, t in BLOCKS if "scheduler" in name)
    option = text.splitlines()[1].partition(" ")[0]
    assert option in {o.name for o in scheduler.scheduler_opts}
