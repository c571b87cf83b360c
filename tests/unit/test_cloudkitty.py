# SPDX-License-Identifier: Apache-2.0
"""What CloudKitty says of the file that it is given."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudkitty.collector.gnocchi import GnocchiCollector
from gnocchi.archive_policy import ArchivePolicy
from oslo_config import cfg

from ceilometer_perf.meters import METERS

FILE = Path(__file__).parents[2] / "etc" / "cloudkitty" / "metrics.yml"
METRICS = yaml.safe_load(FILE.read_text())["metrics"]
SECONDS = 300


@pytest.fixture(autouse=True)
def conf() -> None:
    cfg.CONF([], project="cloudkitty", default_config_files=[])


def check(metrics: Any) -> dict[str, Any]:
    return dict(GnocchiCollector.check_configuration({"metrics": metrics}))


def test_cloudkitty_takes_it() -> None:
    assert set(check(METRICS)) == set(METRICS)


def test_cloudkitty_would_say_otherwise() -> None:
    broken = {"a": {**METRICS["cpu_l3_cache"], "extra_args": {}}}
    with pytest.raises(Exception, match="resource_type"):
        check(broken)


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name: str) -> None:
    """They are ours, and Gnocchi has such a method."""
    (meter,) = (meter for meter in METERS if meter.name == name)
    extra = METRICS[name]["extra_args"]
    method = extra["aggregation_method"]
    assert (meter.type == "cumulative") == (method == "rate:sum")
    assert method in ArchivePolicy.VALID_AGGREGATION_METHODS
    assert extra["force_granularity"] == SECONDS


def test_units() -> None:
    """What an hour costs of one of a unit."""
    hour = {
        "perf.hw.cpu_cycles": Fraction(10**9),
        "memory.bandwidth.total": 2**30 * Fraction(1, SECONDS),
        "cpu_l3_cache": 2**20 * Fraction(3600, SECONDS),
    }
    for name, metric in METRICS.items():
        assert hour[name] * Fraction(metric["factor"]) == 1


def test_the_page_names_what_is_rated() -> None:
    page = FILE.parents[2] / "doc/source/alarms-and-bills.rst"
    text = page.read_text()
    assert all(f"``{name}``" in text for name in METRICS)
    assert f"period = {SECONDS}\n" in text
