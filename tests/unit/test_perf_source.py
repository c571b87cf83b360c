# SPDX-License-Identifier: Apache-2.0
"""The perf source, above a libvirt that is made up."""

import logging
from typing import Any

import libvirt
import pytest

from ceilometer_perf.host.connection import Connection
from ceilometer_perf.sources.perf import PerfSource
from tests.unit.fakes import FakeVirConnect


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, request: Any) -> PerfSource:
    conn = FakeVirConnect({"u": {"perf.cpu_cycles": 7}}, request.param)
    monkeypatch.setattr(libvirt, "openReadOnly", lambda _uri: conn)
    return PerfSource(Connection("qemu:///system", 5))


@pytest.mark.parametrize("source", [2_003_000], indirect=True)
def test_too_old_for_some_events_is_said_once(
    source: PerfSource, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert source.read().instances == {"u": {"perf.cpu_cycles": 7}}
    (line,) = (r for r in caplog.records if r.levelno >= logging.WARNING)
    text = line.getMessage()
    assert "2.3.0" in text
    assert "perf.sw.cpu_clock" in text
    assert "perf.hw.cpu_cycles" not in text


@pytest.mark.parametrize("source", [3_002_000], indirect=True)
def test_new_enough_is_silent(
    source: PerfSource, caplog: pytest.LogCaptureFixture
) -> None:
    source.read()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
