# SPDX-License-Identifier: Apache-2.0
"""A live migration between two real libvirtds, as their agents see it."""

import threading
from collections.abc import Iterator

import libvirt
import pytest

from ceilometer_perf.host.connection import Connection
from ceilometer_perf.host.inventory import Inventory
from tests.chain.server import LOOPBACK, free_ports
from tests.lab import Guest, Lab

GUEST = Guest("mover", "busy")


@pytest.fixture
def labs() -> Iterator[tuple[Lab, Lab]]:
    with Lab(fake_pmu=True) as source, Lab(fake_pmu=True) as target:
        yield source, target


def migrate(source: Lab, target: Lab) -> None:
    (port,) = free_ports(1)
    domain = source.domain(GUEST)
    domain.migrateSetMaxSpeed(1)  # MiB/s, so that it can be watched
    there = libvirt.open(target.uri)
    try:
        domain.migrate3(
            there,
            {
                libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{LOOPBACK}:{port}",
                libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: LOOPBACK,
            },
            libvirt.VIR_MIGRATE_LIVE,
        )
    finally:
        there.close()


def test_only_the_host_on_which_it_runs_has_it(labs: tuple[Lab, Lab]) -> None:
    source, target = labs
    source.start(GUEST)
    inventories = [
        Inventory(Connection(lab.uri_ro, timeout=10), 600) for lab in labs
    ]
    raw = libvirt.openReadOnly(target.uri_ro)
    moving = threading.Thread(target=migrate, args=labs)
    moving.start()
    states: list[set[int]] = [set(), set()]
    listed = set()
    while moving.is_alive():
        listed |= {domain.state()[0] for domain in raw.listAllDomains()}
        for seen, inventory in zip(states, inventories, strict=True):
            domains = inventory.refresh().values()
            seen |= {domain.state for domain in domains if domain.id >= 0}
    moving.join()
    raw.close()
    # libvirt has it there before it runs there; the agent hasn't.
    assert libvirt.VIR_DOMAIN_PAUSED in listed
    assert states[0] == {libvirt.VIR_DOMAIN_RUNNING}
    assert states[1] <= {libvirt.VIR_DOMAIN_RUNNING}
    there = inventories[1].refresh()[GUEST.uuid]
    assert there.state == libvirt.VIR_DOMAIN_RUNNING
    here = inventories[0].refresh().get(GUEST.uuid)
    assert here is None or here.id < 0
