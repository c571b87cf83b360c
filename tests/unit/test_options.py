# SPDX-License-Identifier: Apache-2.0
"""Options are documented, and their sample file is up to date."""

import subprocess
from pathlib import Path

import pytest
from oslo_config import cfg

from ceilometer_perf import options

ROOT = Path(__file__).parents[2]


def test_sample_file_is_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run(
        [ROOT / "tools/options.sh", tmp_path / "sample"], check=True
    )
    assert (ROOT / "etc/ceilometer/perf.conf.sample").read_text() == (
        tmp_path / "sample"
    ).read_text()


@pytest.mark.parametrize("opt", options.OPTS, ids=lambda opt: opt.name)
def test_help_says_the_unit_and_the_reason_of_the_default(
    opt: cfg.Opt,
) -> None:
    assert "default" in (opt.help or "")


def test_registering_twice_is_harmless() -> None:
    conf = cfg.ConfigOpts()
    options.register(conf)
    options.register(conf)
    conf([])
    assert options.get(conf, "libvirt_timeout") == 10.0
