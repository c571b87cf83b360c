# SPDX-License-Identifier: Apache-2.0
"""Polling as the agent does it, in this process."""

import logging
import sys
from typing import Any

from ceilometer import service
from ceilometer.compute.pollsters import GenericComputePollster
from ceilometer.compute.pollsters import instance_stats as core
from ceilometer.compute.virt import inspector

from ceilometer_perf import options
from tests.functional.helper import HELPER
from tests.lab import Lab
from tests.lab.lab import FAKE_PMU

CORE_POLLSTERS = (
    core.PerfCPUCyclesPollster,
    core.PerfInstructionsPollster,
    core.PerfCacheReferencesPollster,
    core.PerfCacheMissesPollster,
)


def configured(lab: Lab, uri: str) -> Any:
    """The agent's options, where this lab is its host."""
    conf = service.prepare_service(["bench"], config_files=[])
    conf.set_override("libvirt_uri", uri)
    options.register(conf)
    conf.set_override("qemu_run_dir", f"{lab.run_dir}/qemu", group="perf")
    # Where Ceilometer logs to stdout, that is for the figures.
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
    return conf


def core_pollsters(conf: Any) -> list[Any]:
    """Those of core's four perf meters."""
    # Core keeps one inspector per process, for the first URI that it saw.
    GenericComputePollster._inspector = inspector.get_hypervisor_inspector(
        conf
    )
    return [pollster(conf) for pollster in CORE_POLLSTERS]


def cycle(pollsters: list[Any], instances: list[Any]) -> list[Any]:
    """One polling cycle of the pollsters."""
    cache: dict[str, Any] = {}
    return [
        sample
        for pollster in pollsters
        for sample in pollster.get_samples(None, cache, instances)
    ]


def helper(lab: Lab) -> str:
    """What starts the privileged one, with the lab's emulated PMU."""
    config = lab.folder / "helper.conf"
    config.write_text(f"[perf]\nqemu_run_dir = {lab.run_dir}/qemu\n")
    return (
        f"env LD_PRELOAD={lab.folder / FAKE_PMU} {HELPER} "
        f"--config-file {config}"
    )
