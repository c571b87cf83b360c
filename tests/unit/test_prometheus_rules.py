# SPDX-License-Identifier: Apache-2.0
"""The recording and alerting rules, by Prometheus' own promtool."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from ceilometer.polling import prom_exporter

from ceilometer_perf.meters import METERS

ETC = Path(__file__).parents[2] / "etc" / "prometheus"
RULES = ETC / "ceilometer-perf.rules.yml"
TESTS = Path(__file__).parent / "prometheus" / "rules.test.yml"
SERIES = re.compile(r"\bceilometer_[a-z0-9_]+\b")
CORE = {"ceilometer_cpu"}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True
    )


def exported() -> set[str]:
    """What core's exporter calls our meters."""
    samples = [
        {"counter_name": meter.name, "counter_volume": 1, "resource_id": "a"}
        for meter in METERS
    ]
    prom_exporter.collect_metrics(samples)
    registry = prom_exporter.CEILOMETER_REGISTRY
    collectors = dict(registry._names_to_collectors)
    for collector in set(collectors.values()):
        registry.unregister(collector)
    return set(collectors)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_they_do_what_they_say() -> None:
    done = promtool("test", "rules", TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    text = TESTS.read_text().replace("value: 0.875", "value: 0.876")
    shown = yaml.safe_load(text.replace("../../../etc/prometheus/", f"{ETC}/"))
    # One of them will do: promtool takes seconds for all.
    shown["tests"] = [t for t in shown["tests"] if "0.876" in str(t)][:1]
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(yaml.safe_dump(shown))
    done = promtool("test", "rules", wrong)
    assert done.returncode == 1
    assert "host:perf_ipc:ratio" in done.stdout + done.stderr


def test_the_sample_configuration_is_valid() -> None:
    done = promtool("check", "config", ETC / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_read_what_is_exported() -> None:
    read = {name for rule in rules() for name in SERIES.findall(rule["expr"])}
    read -= {name for name in read if name.endswith("_")}  # of patterns
    assert read - CORE
    assert read - CORE <= exported()


def test_every_alert_is_tested() -> None:
    shown = yaml.safe_load(TESTS.read_text())["tests"]
    tested = {
        case["alertname"]
        for test in shown
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert tested == {rule["alert"] for rule in rules() if "alert" in rule}
