# SPDX-License-Identifier: Apache-2.0
"""``slice choose``: the real Placement, and guests that run in slices."""

import json
import uuid
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest

from ceilometer_perf.guest import slice_metadata
from tests import warm
from tests.functional.cloud import Cloud
from tests.lab import Guest, Lab
from tests.lab.placement import Placement
from tests.unit.shell import Ran
from tests.unit.slice_trees import EIGHT, MIXED


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as up:
        yield up


@pytest.fixture
def cloud(placement: Placement, tmp_path: Path, lab: Lab) -> Iterator[Cloud]:
    cloud = Cloud(placement, tmp_path)
    cloud.configure(EIGHT)
    cloud.sync()
    yield cloud
    cloud.wipe()
    for domain in lab.connection.listAllDomains():
        domain.destroy()
        domain.undefine()


def choose(cloud: Cloud, lab: Lab, consumer: str) -> Ran:
    return cloud.run(
        "choose", "--consumer", consumer, "--connect", lab.uri_ro, "-f", "json"
    )


def chosen(cloud: Cloud, lab: Lab, consumer: str) -> str:
    ran = choose(cloud, lab, consumer)
    assert ran.code == 0, ran.err
    return str(json.loads(ran.out)["slice"])


def guest(name: str, slice_name: str) -> Guest:
    """A guest that runs in a slice, as its template has it."""
    noted = (
        f"<metadata><p:slice xmlns:p='{slice_metadata.NAMESPACE}' "
        f"name='{slice_name}'/></metadata>"
    )
    return Guest(name, events=(), metadata=False, extra=(noted,))


def test_parts_go_out_in_the_order_of_nova_conf(
    cloud: Cloud, lab: Lab
) -> None:
    consumers = [cloud.take("CUSTOM_SLICE_1") for _ in range(8)]
    found = [chosen(cloud, lab, consumer) for consumer in consumers]
    assert sorted(found) == sorted(name for name, _, _ in EIGHT[3:])
    for half in "8_1-1", "8_1-2":
        ours = [name for name in found if name.startswith(half)]
        assert ours == sorted(ours)
    # Asked again, in another order, with nothing running yet.
    again = [chosen(cloud, lab, consumer) for consumer in consumers[::-1]]
    assert again == found[::-1]


@pytest.mark.parametrize(
    ("resource_class", "slices"),
    [
        ("CUSTOM_SLICE_8", {"8_1"}),
        ("CUSTOM_SLICE_4", {"8_1-1", "8_1-2"}),
    ],
)
def test_what_has_parts_is_known_by_its_provider(
    cloud: Cloud, lab: Lab, resource_class: str, slices: set[str]
) -> None:
    consumers = [cloud.take(resource_class) for _ in slices]
    found = {chosen(cloud, lab, consumer) for consumer in consumers}
    assert found == slices


def test_parts_of_several_classes_and_single_slices(
    cloud: Cloud, lab: Lab
) -> None:
    cloud.configure(MIXED)
    cloud.sync()
    expected = {
        "CUSTOM_SMALL": {"odd-small", "single"},
        "CUSTOM_BIG": {"odd-big"},
        "CUSTOM_HALF": {"left", "right"},
    }
    for resource_class, slices in expected.items():
        consumers = [cloud.take(resource_class) for _ in slices]
        assert {chosen(cloud, lab, each) for each in consumers} == slices


def test_what_runs_is_not_given_again(cloud: Cloud, lab: Lab) -> None:
    first = guest("first", "8_1-1-1")
    third = guest("third", "8_1-1-3")
    lab.start_all([first, third])
    pool = cloud.providers()["8_1-1"]["uuid"]
    one = {"allocations": {pool: {"resources": {"CUSTOM_SLICE_1": 1}}}}
    others = [str(uuid.uuid4()) for _ in range(2)]
    for consumer in first.uuid, third.uuid, *others:
        assert cloud.claim(one, consumer)
    # It runs: the same answer, whatever is free.
    assert chosen(cloud, lab, third.uuid) == "8_1-1-3"
    assert [chosen(cloud, lab, each) for each in others] == [
        "8_1-1-2",
        "8_1-1-4",
    ]
    # The one that ended gives its part back to who comes next.
    lab.remove(first)
    cloud.release(first.uuid)
    new = str(uuid.uuid4())
    assert cloud.claim(one, new)
    assert chosen(cloud, lab, new) == "8_1-1-1"


def test_a_choice_is_forgotten_with_its_allocation(
    cloud: Cloud, lab: Lab
) -> None:
    gone = cloud.take("CUSTOM_SLICE_1")
    was = chosen(cloud, lab, gone)
    cloud.release(gone)
    assert chosen(cloud, lab, cloud.take("CUSTOM_SLICE_1")) == was
    assert choose(cloud, lab, gone).code == 2


def test_a_choice_is_forgotten_once_its_domain_runs(
    cloud: Cloud, lab: Lab
) -> None:
    one = guest("one", "8_1-1-1")
    cloud.take("CUSTOM_SLICE_1", one.uuid)
    name = chosen(cloud, lab, one.uuid)
    lab.start(guest("one", name))
    other = cloud.take("CUSTOM_SLICE_1")
    assert chosen(cloud, lab, other) != name
    (file,) = (cloud.conf.parent / "slices").glob("*.json")
    assert set(json.loads(file.read_text())) == {other}


def test_who_runs_without_an_allocation_is_named(
    cloud: Cloud, lab: Lab
) -> None:
    stray = lab.start(guest("stray", "8_1-1-1"))
    ran = choose(cloud, lab, cloud.take("CUSTOM_SLICE_8"))
    assert ran.code == 2
    error = json.loads(ran.err)
    assert error["error"] == "ChoiceError"
    assert stray.uuid in error["message"]
    assert "8_1-1-1" in error["message"]


def test_a_slice_that_nova_conf_lost_is_not_guessed_around(
    cloud: Cloud, lab: Lab
) -> None:
    old = lab.start(guest("old", "renamed"))
    cloud.take("CUSTOM_SLICE_1", old.uuid)
    ran = choose(cloud, lab, cloud.take("CUSTOM_SLICE_1"))
    assert ran.code == 2
    assert old.uuid in ran.err
    assert "renamed" in ran.err


@pytest.mark.parametrize("units", [2, 4])
def test_an_allocation_that_no_flavor_of_ours_makes(
    cloud: Cloud, lab: Lab, units: int
) -> None:
    pool = cloud.providers()["8_1-2"]["uuid"]
    body = {pool: {"resources": {"CUSTOM_SLICE_1": units}}}
    consumer = cloud.claim({"allocations": body})
    assert consumer
    ran = choose(cloud, lab, consumer)
    assert ran.code == 2
    assert "slice flavors" in ran.err


def test_all_who_ask_at_once_get_another(cloud: Cloud, lab: Lab) -> None:
    consumers = [cloud.take("CUSTOM_SLICE_1") for _ in range(8)]

    def ask(consumer: str) -> str:
        done = warm.run(
            [
                "ceilometer-perf", "slice", "choose",
                "--nova-conf", cloud.conf, "--connect", lab.uri_ro,
                "--consumer", consumer, "-f", "value", "-c", "slice",
            ],
            timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with futures.ThreadPoolExecutor(8) as pool:
        # Each of them twice, at the same time.
        found = list(pool.map(ask, consumers * 2))
    assert found[:8] == found[8:]
    assert len(set(found)) == 8


def test_a_folder_that_can_not_be_written_is_named(
    cloud: Cloud, lab: Lab
) -> None:
    (cloud.conf.parent / "slices").write_text("in the way")
    ran = choose(cloud, lab, cloud.take("CUSTOM_SLICE_1"))
    assert ran.code == 2
    assert "state_path" in ran.err


def test_records_that_somebody_broke_are_named(cloud: Cloud, lab: Lab) -> None:
    consumer = cloud.take("CUSTOM_SLICE_1")
    chosen(cloud, lab, consumer)
    (file,) = (cloud.conf.parent / "slices").glob("*.json")
    for text in "", "[]", "{", '{"x": 1}':
        file.write_text(text)
        ran = choose(cloud, lab, consumer)
        assert ran.code == 2
        assert str(file) in ran.err
