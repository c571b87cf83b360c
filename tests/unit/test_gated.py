# SPDX-License-Identifier: Apache-2.0
"""What a source's gate is told of an instance, its process and libvirtd."""

import shutil
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.reading import Reading
from tests.unit.fakes import FakeSource, gated, guest
from tests.unit.test_processes import Host

CYCLES = "perf.cpu_cycles"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.start("driver", 1, started=10)
    host.start("web", 2, started=500)
    host.start("db", 3, started=500)
    return host


def reading(cycles: Mapping[str, int], *, boot: int = 1) -> Reading:
    return Reading(
        asked_at=time.monotonic(),
        taken_at=0,
        guests={name: guest(name, id=boot) for name in cycles},
        instances={name: {CYCLES: n} for name, n in cycles.items()},
    )


def judged(host: Host, *readings: Reading) -> dict[str, Judgement]:
    """Of each instance's cycles, after the last reading."""
    source = gated(FakeSource(*readings), host.processes)
    for _ in readings:
        _, answers = source.look()
    return {
        name: answer.judged.judgements[CYCLES]
        for name, answer in answers.items()
    }


def test_each_instance_has_a_memory_of_its_own(host: Host) -> None:
    found = judged(
        host, reading({"web": 9, "db": 5}), reading({"web": 8, "db": 6})
    )
    assert found == {"web": verdicts.FELL, "db": verdicts.OK}


def test_another_boot_is_another_life(host: Host) -> None:
    first, second = reading({"web": 9}), reading({"web": 8}, boot=2)
    assert judged(host, first, second) == {"web": verdicts.OK}


def test_a_libvirtd_that_is_younger_is_seen(host: Host) -> None:
    host.start("driver", 4, started=1000)
    assert judged(host, reading({"web": 9})) == {"web": verdicts.RESTARTED}


@pytest.mark.parametrize("init", [True, False])
def test_a_qemu_that_is_not_seen_any_more(host: Host, init: bool) -> None:
    """It has ended, unless /proc is mounted with hidepid now."""
    source = gated(
        FakeSource(*(reading({"web": n}) for n in (9, 10, 8))), host.processes
    )
    source.look()
    shutil.rmtree(host.proc / "2")
    if not init:
        shutil.rmtree(host.proc / "1")
    _, answers = source.look()
    assert answers.keys() == (set() if init else {"web"})
    if not init:
        assert answers["web"].judged.coverage is None
        _, answers = source.look()
        fell = answers["web"].judged.judgements[CYCLES]
        assert fell == verdicts.FELL


def test_times_are_utc(tmp_path: Path) -> None:
    """Also where there is no process, and so no start of it, to be seen."""
    source = FakeSource(reading({"web": 9}))
    _, answers = gated(source, Host(tmp_path).processes).look()
    since = answers["web"].judged.since
    assert isinstance(since, datetime)
    assert since.utcoffset() == timedelta(0)
