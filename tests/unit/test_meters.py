# SPDX-License-Identifier: Apache-2.0
"""Table, entry points and documentation name the same meters."""

import configparser
import fnmatch
import importlib.metadata
import re
from pathlib import Path

import pytest
import yaml
from ceilometer import sample
from ceilometer.polling import plugin_base

from ceilometer_perf.agent import pollsters
from ceilometer_perf.cli import meters as cli
from ceilometer_perf.meters import HARDWARE_KEYS, METERS, PERF_KEYS

ROOT = Path(__file__).parents[2]
NAMES = [meter.name for meter in METERS]


def entry_points(group: str) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = parser["options.entry_points"][group].strip().splitlines()
    return dict(re.split(r"\s*=\s*", line) for line in lines)


def test_every_perf_event_of_libvirt_that_counts() -> None:
    """All events but the three that moved to resctrl."""
    import libvirt

    events = {
        value
        for name, value in vars(libvirt).items()
        if name.startswith("VIR_PERF_PARAM_")
    }
    assert {key.removeprefix("perf.") for key in PERF_KEYS} == events - {
        "cmt",
        "mbmt",
        "mbml",
    }


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_what_needs_which_kind_of_counter() -> None:
    assert len(PERF_KEYS) == 19
    assert len(HARDWARE_KEYS) == 10
    assert HARDWARE_KEYS < PERF_KEYS


def test_names_are_not_core_meters() -> None:
    core = {
        ep.name
        for ep in importlib.metadata.entry_points(
            group="ceilometer.poll.compute"
        )
        if ep.value.startswith("ceilometer.")
    }
    assert core
    assert not core & set(NAMES)


def test_setup_cfg_has_the_table() -> None:
    assert entry_points("ceilometer.poll.compute") == {
        meter.name: f"ceilometer_perf.agent.pollsters:{meter.pollster}"
        for meter in METERS
    }


def test_installed_entry_points_are_those_of_setup_cfg() -> None:
    installed = {
        ep.name: ep.value
        for ep in importlib.metadata.entry_points(
            group="ceilometer.poll.compute"
        )
        if ep.value.startswith("ceilometer_perf.")
    }
    assert installed == entry_points("ceilometer.poll.compute")


@pytest.mark.parametrize("meter", METERS, ids=NAMES)
def test_each_entry_point_loads_its_meter(meter: object) -> None:
    (entry,) = (
        ep
        for ep in importlib.metadata.entry_points(
            group="ceilometer.poll.compute"
        )
        if ep.name == meter.name  # type: ignore[attr-defined]
    )
    loaded = entry.load()
    assert issubclass(loaded, plugin_base.PollsterBase)
    assert loaded.meter is meter


@pytest.mark.parametrize("meter", METERS, ids=NAMES)
def test_types_are_ceilometer_types(meter: object) -> None:
    assert meter.type in sample.TYPES  # type: ignore[attr-defined]


def test_readme_has_every_group() -> None:
    """Each meter is in one row of its table, with its type."""
    table = re.findall(
        r"^\| (``.+?``) *\| (\w+) +\|",
        (ROOT / "README.rst").read_text(),
        re.MULTILINE,
    )
    for meter in METERS:
        types = [
            kind
            for names, kind in table
            if any(
                fnmatch.fnmatch(meter.name, name)
                for name in re.findall(r"``(.+?)``", names)
            )
        ]
        assert types == [meter.type]


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"<([\w./-]+)>`_", (ROOT / "README.rst").read_text())
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_command_lists_the_table() -> None:
    assert [row[:3] for row in cli.rows()] == [
        (m.name, m.type, m.unit) for m in METERS
    ]


def test_polling_yaml_asks_for_every_meter_and_no_other() -> None:
    from ceilometer.agent import Source

    text = (ROOT / "etc/ceilometer/polling.yaml").read_text()
    sources = yaml.safe_load(text)["sources"]
    wanted = [p for source in sources for p in source["meters"]]
    assert all(Source.is_supported(wanted, name) for name in NAMES)
    # Core's own perf meters are not woken by ours.
    assert not Source.is_supported(wanted, "perf.cpu.cycles")
    assert not Source.is_supported(wanted, "perf.instructions")
    assert not Source.is_supported(wanted, "perf.cache.misses")


def test_our_sources_have_an_interval_of_their_own() -> None:
    """Else core's hold them up when libvirtd dies, and old values stay."""
    ours = yaml.safe_load((ROOT / "etc/ceilometer/polling.yaml").read_text())
    names = {source["name"] for source in ours["sources"]}
    # With core's own sources in it, as they come.
    text = (ROOT / "etc/kolla/config/ceilometer/polling.yaml").read_text()
    sources = yaml.safe_load(text)["sources"]
    own, cores = (
        {s["interval"] for s in sources if (s["name"] in names) is our}
        for our in (True, False)
    )
    assert len(own) == 1
    assert cores
    assert not own & cores


def test_module_has_a_class_for_each_row() -> None:
    for meter in METERS:
        assert getattr(pollsters, meter.pollster).meter is meter
