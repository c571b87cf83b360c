# SPDX-License-Identifier: Apache-2.0
"""Options are documented, and their sample file is up to date."""

import subprocess
from pathlib import Path

import pytest
from oslo_config import cfg

from ceilometer_perf import options, wiring
from ceilometer_perf.doctor import agent_conf
from ceilometer_perf.reading import SourceUnavailableError

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


@pytest.mark.parametrize(
    "line",
    [
        "libvirt_timeout = nan",
        "libvirt_timeout = inf",
        "libvirt_timeout = 1e9",
        "libvirt_timeout =",
        "inventory_interval = inf",
        "min_coverage = nan",
        "min_coverage = $nope",
        "coverage_floor = nan",
        "coverage_floor = inf",
        "withhold_in_doubt =",
        "hardware_counters =",
        "qemu_run_dir =",
        "qemu_run_dir = run/libvirt",
        "qemu_run_dir = $qemu_run_dir",
        "resctrl_path =",
        "rdt_source =",
        "privsep_helper =",
        "privsep_helper = '\"'",
        "privsep_helper = sudo 'privsep-helper",
    ],
)
def test_an_agent_says_which_option_is_wrong(
    line: str, tmp_path: Path
) -> None:
    """In one line, and it makes the pollsters all the same."""
    (tmp_path / "a.conf").write_text(f"[perf]\n{line}\n")
    conf = agent_conf.read([str(tmp_path / "a.conf")])
    with pytest.raises(SourceUnavailableError) as caught:
        wiring.agent(conf, {}).look()
    said = str(caught.value)
    assert f"[perf] {line.partition(' ')[0]}: " in said
    assert "(the default is " in said
    assert "\n" not in said
