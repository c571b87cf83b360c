# SPDX-License-Identifier: Apache-2.0
"""``slice flavors``: sizes from templates, and what is no template."""

import json
from pathlib import Path
from typing import Any

import pytest

from ceilometer_perf.slices.placement.flavors import asks_for_slice
from tests.unit.shell import run
from tests.unit.slice_trees import write_nova_conf

DOMAIN = "<domain><vcpu>{}</vcpu><memory unit='{}'>{}</memory></domain>"


def flavor(tmp_path: Path, template: str) -> tuple[str, dict[str, Any]]:
    conf = tmp_path / "nova.conf"
    write_nova_conf(conf, [("a", "BIG_ONE", None)])
    (tmp_path / "a.xml").write_text(template)
    words = "slice", "flavors", "--nova-conf", str(conf)
    (found,) = json.loads(run(*words, "-f", "json").out)
    return run(*words).out.splitlines()[0], found


@pytest.mark.parametrize(
    ("template", "options"),
    [
        (DOMAIN.format(4, "GiB", 2), "--vcpus 4 --ram 2048 "),
        (DOMAIN.format(4, "KiB", 1025), "--vcpus 4 --ram 2 "),
        (DOMAIN.format("{{ instance.vcpus }}", "MiB", 7), "--ram 7 "),
        (DOMAIN.format(3, "MiB", "{{ instance.memory_mib }}"), "--vcpus 3 "),
        ("<domain/>", ""),
    ],
)
def test_a_flavor_is_as_large_as_its_template(
    tmp_path: Path, template: str, options: str
) -> None:
    command, found = flavor(tmp_path, template)
    assert command == f"openstack flavor create {options}--disk 1 big-one"
    assert (found["vcpus"] is not None) == ("--vcpus" in options)
    assert (found["ram"] is not None) == ("--ram" in options)
    assert found["name"] == "big-one"


@pytest.mark.parametrize(
    "template", ["<domain>", "{{ nobody }}", DOMAIN.format(1, "furlong", 1)]
)
def test_a_template_that_is_none_is_named(
    tmp_path: Path, template: str
) -> None:
    conf = tmp_path / "nova.conf"
    write_nova_conf(conf, [("a", "A", None)])
    (tmp_path / "a.xml").write_text(template)
    ran = run("slice", "flavors", "--nova-conf", str(conf))
    assert ran.code == 2
    assert ran.out == ""
    assert "a.xml" in ran.err
    assert ran.err.count("\n") == 1


def test_a_disk_of_choice(tmp_path: Path) -> None:
    conf = tmp_path / "nova.conf"
    write_nova_conf(conf, [("a", "A", None)])
    words = "slice", "flavors", "--nova-conf", str(conf), "--disk"
    assert " --disk 20 a\n" in run(*words, "20").out
    for wrong in "-1", "1.5", "4294967296":
        ran = run(*words, wrong)
        assert (ran.code, ran.out) == (2, "")
        assert "--disk" in ran.err


def test_a_flavor_takes_a_place_of_the_compute_node(tmp_path: Path) -> None:
    _, found = flavor(tmp_path, "<domain/>")
    assert found["properties"]["resources:CUSTOM_LIBVIRT_SLICE"] == "1"
    assert asks_for_slice(found["properties"])
    assert not asks_for_slice({"resources:VCPU": "0"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("compute_driver = ceilometer_perf.SlicesDriver", ""),
        ("compute_driver = libvirt.LibvirtDriver", "is libvirt.LibvirtDriver"),
        ("", "is not set"),
    ],
)
def test_a_driver_that_boots_no_slices_is_named(
    tmp_path: Path, line: str, said: str
) -> None:
    conf = tmp_path / "nova.conf"
    write_nova_conf(conf, [("a", "A", None)], line)
    ran = run("slice", "flavors", "--nova-conf", str(conf))
    assert ran.code == 0
    assert ran.err.count("\n") == bool(said)
    assert said in ran.err
    assert ("set it to ceilometer_perf.SlicesDriver" in ran.err) == bool(said)


def test_names_are_fit_for_a_shell(tmp_path: Path) -> None:
    command, _ = flavor(tmp_path, "<domain/>")
    assert command.split()[-1] == "big-one"


def checked(
    tmp_path: Path, properties: dict[str, str], *words: str
) -> tuple[int, str]:
    """With a flavor that the host's own command made, and then changed."""
    conf = tmp_path / "nova.conf"
    write_nova_conf(conf, [("a", "A", None), ("b", "B", None)])
    for name in "ab":
        (tmp_path / f"{name}.xml").write_text("<domain/>")
    command = "slice", "flavors", "--nova-conf", str(conf)
    made, _ = json.loads(run(*command, "-f", "json").out)
    there = [
        {"Name": "ordinary", "Properties": {"hw:cpu_policy": "dedicated"}},
        {"Name": "a\n", "Properties": made["properties"] | properties},
    ]
    listed = tmp_path / "flavors.json"
    listed.write_text(json.dumps(there))
    ran = run(*command, "--check", str(listed), *words)
    assert ran.err == ""
    return ran.code, ran.out


@pytest.mark.parametrize("more", [{}, {"hw:pmu": "true"}])
def test_flavors_of_slices_are_right(
    tmp_path: Path, more: dict[str, str]
) -> None:
    assert checked(tmp_path, more) == (0, "no findings\n")
    assert checked(tmp_path, more, "-f", "json") == (0, "[]\n")


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("hw:cpu_policy", "dedicated", "NUMATopologyFilter"),
        ("hw:numa_nodes", "1", "NUMATopologyFilter"),
        ("hw:mem_page_size", "large", "NUMATopologyFilter"),
        ("hw:cpu_realtime", "yes", "NUMATopologyFilter"),
        ("pci_passthrough:alias", "gpu:1", "PciPassthroughFilter"),
    ],
)
def test_filters_that_refuse_or_book_twice(
    tmp_path: Path, key: str, value: str, what: str
) -> None:
    code, out = checked(tmp_path, {key: value})
    assert (code, out.count("\n")) == (1, 1)
    assert f": {key}: " in out
    assert what in out
    code, out = checked(tmp_path, {key: value}, "-f", "json")
    (found,) = json.loads(out)
    assert (code, found["flavor"], found["key"]) == (1, "a\n", key)


@pytest.mark.parametrize(
    "properties",
    [
        {"trait1:CUSTOM_SLICE_SHAPE_000000000000": "required"},
        {"resources:VCPU": "2"},
        {"resources1:CUSTOM_A": "2"},
        {"resources:VGPU": "1"},
    ],
)
def test_flavors_for_a_host_divided_otherwise(
    tmp_path: Path, properties: dict[str, str]
) -> None:
    code, out = checked(tmp_path, properties)
    assert (code, out.count("\n")) == (1, 1)
    assert ": resources, trait: " in out
    (found,) = json.loads(checked(tmp_path, properties, "-f", "json")[1])
    assert found["flavor"] == "a\n"


@pytest.mark.parametrize(
    "text", ["", "{}x", "[1]", '{"a": 1}', '[{"Name": "a"}]',
             '[{"Name": "a", "Properties": "b=c"}]']
)  # fmt: skip
def test_a_list_of_flavors_that_is_none(tmp_path: Path, text: str) -> None:
    conf = tmp_path / "nova.conf"
    write_nova_conf(conf, [("a", "A", None)])
    (tmp_path / "a.xml").write_text("<domain/>")
    listed = tmp_path / "flavors.json"
    listed.write_text(text)
    ran = run(
        "slice", "flavors", "--nova-conf", str(conf), "--check", str(listed)
    )
    assert (ran.code, ran.out) == (2, "")
    assert f"--check {listed}" in ran.err
    assert ran.err.count("\n") == 1
