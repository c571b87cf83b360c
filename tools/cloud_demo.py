# SPDX-License-Identifier: Apache-2.0
"""An ordinary user's instances, and what Gnocchi tells him of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import openstack
from rich import box
from rich.console import Console
from rich.table import Table

from ceilometer_perf.meters import METERS
from tests.chain.errors import ChainError
from tests.cloud import image
from tests.cloud.flavors import FLAVORS
from tests.cloud.folder import CLOUDS
from tests.cloud.metric import Metric
from tests.cloud.site import ADMIN, DEMO
from tests.cloud.story import COUNTERS
from tools.progress import Step, stderr, steps

#: By instance: its flavor and its image.
INSTANCES = {
    name: (flavor, disk)
    for name, flavor, disk in (
        ("busy", "perf.pmu", "spin"),
        ("idle", "perf.small", "idle"),
        ("realtime", "perf.realtime", "idle"),
    )
    if flavor in {each.name for each in FLAVORS}
}
#: What an instance that is not polled lacks: see [perf] poll_realtime_guests.
UNREAD = "realtime"
PATIENCE = 120.0  # seconds
CYCLES = 4
WIDTH = 110  # where stdout is no terminal


@dataclass(frozen=True)
class Measure:
    """One of Gnocchi's, of a second."""

    instance: str
    name: str
    meter: str
    timestamp: str
    value: float
    host: str


def run(folder: Path, state: Mapping[str, Any], *, as_json: bool) -> int:
    """Boot them if they are not there, and show their newest measures."""
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(folder / CLOUDS)
    admin, demo = (openstack.connect(cloud=user) for user in (ADMIN, DEMO))
    try:
        with steps() as step:
            step("Making flavors and images")
            _offer(admin)
            step("Booting instances")
            _boot(demo)
            measures = _wait_for_measures(demo, step)
    except openstack.exceptions.SDKException as error:
        raise ChainError(str(error)) from error
    if as_json:
        for each in measures:
            print(json.dumps(asdict(each)))
    else:
        _print(measures)
    for what in dict.fromkeys(
        what for host in state["hosts"].values() for what in host["emulated"]
    ):
        stderr.print(f"Emulated: {what}", markup=False)
    return 0


def _offer(admin: Any) -> None:
    known = {flavor.name for flavor in admin.compute.flavors()}
    for flavor in FLAVORS:
        if flavor.name not in known:
            flavor.create(admin)
    image.upload(admin)


def _boot(demo: Any) -> None:
    """With the command that the user himself would type."""
    there = {server.name for server in demo.compute.servers()}
    commands = [
        f"server create --flavor {flavor} --image {disk} --nic none "
        f"--wait {name}"
        for name, (flavor, disk) in INSTANCES.items()
        if name not in there
    ]
    if not commands:
        return
    program = Path(sys.executable).with_name("openstack")
    done = subprocess.run(
        [program, "--os-cloud", DEMO],
        input="".join(f"{line}\n" for line in commands),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    states = {s.name: s.status for s in demo.compute.servers()}
    wrong = [name for name in INSTANCES if states.get(name) != "ACTIVE"]
    if wrong:
        words = done.stderr.strip().splitlines() or ["no reason"]
        raise ChainError(f"{', '.join(wrong)} did not boot: {words[-1]}")


def _wait_for_measures(demo: Any, step: Step) -> list[Measure]:
    """As soon as each instance that is polled has some of each counter."""
    servers = {s.id: s.name for s in demo.compute.servers()}
    deadline = time.monotonic() + PATIENCE
    while True:
        found = list(_measures(demo, servers))
        names = [name for name in servers.values() if name != UNREAD]
        counts = [_fewest(found, name) for name in names]
        step(f"Polling: {min(counts)} of {CYCLES} measures of each counter")
        if min(counts) >= CYCLES:
            return found
        if time.monotonic() > deadline:
            raise ChainError(
                f"not within {PATIENCE:.0f} s: {CYCLES} measures of each "
                "counter in Gnocchi; see the agents' logs"
            )
        time.sleep(1)


def _fewest(measures: list[Measure], name: str) -> int:
    """Of the counter of an instance that has the fewest."""
    return min(
        sum(each.name == name and each.meter == meter for each in measures)
        for meter in COUNTERS
    )


def _measures(demo: Any, servers: Mapping[str, str]) -> Iterator[Measure]:
    gnocchi = Metric(demo)
    for uuid, name in servers.items():
        resource = gnocchi.instance(uuid)
        if resource is None:
            continue
        metrics = resource["metrics"]
        for meter in (each.name for each in METERS if each.name in metrics):
            for at, value in gnocchi.measures(metrics[meter]):
                yield Measure(uuid, name, meter, at, value, resource["host"])


def _print(measures: list[Measure]) -> None:
    console = Console(
        highlight=False, width=None if sys.stdout.isatty() else WIDTH
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Meter", no_wrap=True)
    for name in INSTANCES:
        table.add_column(name, justify="right", no_wrap=True)
    newest = {(m.name, m.meter): m.value for m in measures}
    for meter in METERS:
        values = (newest.get((name, meter.name)) for name in INSTANCES)
        table.add_row(
            meter.name, *("-" if v is None else f"{v:,.3f}" for v in values)
        )
    console.print(table)
    hosts = {m.name: m.host for m in measures}
    for name, host in hosts.items():
        console.print(f"{name} runs on {host}")
    if UNREAD in INSTANCES and not _fewest(measures, UNREAD):
        console.print(
            f"{UNREAD}: its counters are not read, as each reading would "
            "interrupt its vCPUs"
        )
