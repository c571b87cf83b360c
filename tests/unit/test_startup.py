# SPDX-License-Identifier: Apache-2.0
"""What the agent says about polling.yaml when it starts."""

from pathlib import Path

import pytest
from oslo_config import cfg

from ceilometer_perf.agent import startup
from tests.unit.fakes import agent_conf

SOURCES = """\
sources:
  - name: some
    interval: 60
    meters: [{first}]
  - name: more
    interval: {interval}
    meters: [{second}]
"""


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    return agent_conf()


def advice(
    conf: cfg.ConfigOpts, file: Path, caplog: pytest.LogCaptureFixture
) -> list[str]:
    conf.set_override("cfg_file", str(file), group="polling")
    startup.advise(conf)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("first", "second", "interval", "said"),
    [
        ("perf.hw.*", "perf.sw.*", 60, None),
        ("perf.hw.*", "vcpus", 59, None),
        ("perf.hw.*", "vcpus", 60, "(vcpus) every 60 s"),
        ("perf.hw.*", "perf.hw.no_such", 60, "perf.hw.no_such"),
        ("perf.hw.*", "perf.hw.cpu_cycles", 60, "more than one source"),
        ("vcpus", "cpu", 60, "none of ceilometer-perf's meters"),
    ],
)
def test_one_line_or_none(
    conf: cfg.ConfigOpts, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    first: str, second: str, interval: int, said: str | None,
) -> None:  # fmt: skip
    file = tmp_path / "polling.yaml"
    file.write_text(
        SOURCES.format(first=first, second=second, interval=interval)
    )
    lines = advice(conf, file, caplog)
    if said is None:
        assert lines == []
    else:
        (line,) = lines
        assert said in line
        assert str(file) in line


@pytest.mark.parametrize("content", [None, b"", b"[", b"\xff\x00", b"- x"])
def test_never_raises(
    conf: cfg.ConfigOpts, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    content: bytes | None,
) -> None:  # fmt: skip
    file = tmp_path / "polling.yaml"
    if content is not None:
        file.write_bytes(content)
    assert len(advice(conf, file, caplog)) == 1
