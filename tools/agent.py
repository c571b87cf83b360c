# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's polling and notification services, in this one process.

No broker is needed: oslo.messaging's in-memory transport carries the samples
from one to the other. The configuration is the sample one from etc/, but for
the polling interval and for where samples go: a file, a JSON object a line.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from ceilometer import notification, service
from ceilometer.polling import manager

from tests.lab import Lab

HELPER = Path(sys.executable).with_name("privsep-helper")
ETC = Path(__file__).parents[1] / "etc" / "ceilometer"


class Samples:
    """The file that the services publish to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """What is complete so far, in Ceilometer's message form."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().split("\n")[:-1]
        return [_message(json.loads(line)) for line in lines]


def _message(sample: dict[str, Any]) -> dict[str, Any]:
    return {
        "counter_name": sample["name"],
        "counter_type": sample["type"],
        "counter_unit": sample["unit"],
        "counter_volume": sample["volume"],
        "resource_id": sample["resource_id"],
        "project_id": sample["project_id"],
        "timestamp": sample["timestamp"],
        "resource_metadata": sample["resource_metadata"],
    }


@contextlib.contextmanager
def running(lab: Lab, interval: int) -> Iterator[Samples]:
    """Poll the lab's libvirt every ``interval`` seconds.

    Configuration, log (``ceilometer.log``) and samples are in its folder.
    """
    samples = Samples(lab.folder / "samples.json")
    config = _write_config(lab, interval, samples.path)
    conf = service.prepare_service(["demo"], config_files=[str(config)])
    services = [
        notification.NotificationService(0, conf),
        manager.AgentManager(0, conf, ["compute"]),
    ]
    for each in services:
        each.run()
    try:
        yield samples
    finally:
        for each in reversed(services):
            each.terminate()


def _write_config(lab: Lab, interval: int, samples: Path) -> Path:
    folder = lab.folder
    polling = yaml.safe_load((ETC / "polling.yaml").read_text())
    for source in polling["sources"]:
        source["interval"] = interval
    pipeline = yaml.safe_load((ETC / "pipeline.yaml").read_text())
    for sink in pipeline["sinks"]:
        sink["publishers"] = [f"file://{samples}?json"]
    (folder / "polling.yaml").write_text(yaml.safe_dump(polling))
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    config = folder / "ceilometer.conf"
    config.write_text(
        f"""\
[DEFAULT]
host = demo
libvirt_uri = {lab.uri_ro}
transport_url = kombu+memory://
pipeline_cfg_file = {folder}/pipeline.yaml
log_file = {folder}/ceilometer.log
pollsters_definitions_dirs = {folder}/pollsters.d
[polling]
cfg_file = {folder}/polling.yaml
[perf]
qemu_run_dir = {lab.run_dir}/qemu
resctrl_path = {lab.resctrl_path}
neighbours_file = {folder}/neighbours.json
privsep_helper = {HELPER} --config-file {config}
[notification]
pipelines = meter
"""
    )
    return config
