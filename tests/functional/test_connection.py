# SPDX-License-Identifier: Apache-2.0
"""The connection against a real libvirtd that is stopped, hung, killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ceilometer_perf.host.connection import Connection
from ceilometer_perf.host.inventory import Inventory
from ceilometer_perf.reading import SourceUnavailableError
from ceilometer_perf.sources.perf import PerfSource
from tests.functional.agent import wait_for
from tests.lab import Guest, Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        lab.start(Guest("paused-1", "paused"))
        yield lab


def source_of(uri: str, timeout: float) -> PerfSource:
    connection = Connection(uri, timeout)
    return PerfSource(connection, Inventory(connection, 600))


def descriptors() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


def test_reads_at_once_from_the_libvirtd_after_the_killed_one(
    lab: Lab,
) -> None:
    source = source_of(lab.uri_ro, timeout=10)
    source.read()
    open_before = descriptors()
    for _ in range(5):
        lab.libvirtd.kill(signal.SIGKILL)
        lab.libvirtd.start()
        assert source.read().instances
    assert descriptors() == open_before


def test_a_killed_libvirtd_is_said_and_never_an_empty_reading(
    lab: Lab,
) -> None:
    source = source_of(lab.uri_ro, timeout=10)
    source.read()
    lab.libvirtd.kill(signal.SIGKILL)
    for _ in range(3):
        with pytest.raises(SourceUnavailableError, match="libvirt at"):
            source.read()
    lab.libvirtd.start()
    assert source.read().instances


def test_a_hung_libvirtd_costs_the_timeout(lab: Lab) -> None:
    source = source_of(lab.uri_ro, timeout=0.5)
    source.read()
    threads = threading.active_count()
    lab.libvirtd.kill(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match=r"within 0\.5 s"):
            source.read()
        for _ in range(5):
            with pytest.raises(SourceUnavailableError, match="earlier"):
                source.read()
        assert time.monotonic() - started < 2
    finally:
        lab.libvirtd.kill(signal.SIGCONT)

    def answers() -> bool:
        try:
            return bool(source.read().instances)
        except SourceUnavailableError:
            return False

    wait_for(answers, 10, "an answer after SIGCONT")
    wait_for(
        lambda: threading.active_count() <= threads, 5, "no thread left over"
    )


@pytest.mark.parametrize(
    "uri", ["qemuu:///system", "qemu+unix:///system?socket=/no/such/socket"]
)
def test_a_wrong_uri_is_one_line_that_names_it(uri: str) -> None:
    with pytest.raises(SourceUnavailableError) as caught:
        source_of(uri, timeout=5).read()
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_driver_without_perf_statistics_has_no_counters() -> None:
    reading = source_of("test:///default", timeout=5).read()
    assert not any(reading.instances.values())
