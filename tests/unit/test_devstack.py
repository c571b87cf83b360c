# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin, with DevStack's functions stubbed."""

import configparser
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ceilometer.polling.manager import PollingManager

from ceilometer_perf.host.probe import advice
from ceilometer_perf.meters import METERS
from devstack import add_sources
from tests.lab.ceilometer import configuration
from tests.unit.probe_cases import FakeKernel, probed

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = (
    "devstack/plugin.sh",
    "devstack/settings",
    "tests/unit/devstack.sh",
    *(f"tools/{path.name}" for path in CHECKOUT.glob("tools/*.sh")),
)
BOTH = "ceilometer-acompute ceilometer-anotification"

CORE_POLLING = {
    "sources": [{"name": "some", "interval": 300, "meters": ["cpu"]}]
}
CORE_PIPELINE = {
    "sources": [{"name": "some", "meters": ["cpu"], "sinks": ["out"]}],
    "sinks": [{"name": "out", "publishers": ["gnocchi://"]}],
}
NOVA_CONF = advice.nova_conf(probed("vm", FakeKernel((1,))))
INSTALLED = Path(sys.executable).parent / "ceilometer-perf"
COMMAND = """\
#!/bin/sh
case "$*" in
    "host probe --nova-conf") cat <<'END'
{NOVA_CONF}END
    ;;
    "host probe -f value -c hardware_counters") echo 4 ;;
    gnocchi-resources*) exec {RESOURCES} "$@" ;;
    doctor) echo "broken instances"; exit 1 ;;
    *) exit 2 ;;
esac
"""


class DevStack:
    """A host that DevStack works on."""

    def __init__(self, root: Path, resources: str | Path = "true") -> None:
        """``resources`` is the program that makes gnocchi_resources.yaml."""
        self.root = root
        for name in ("bin", "ceilometer", "resctrl"):
            (root / name).mkdir()
        self.command(COMMAND.format(NOVA_CONF=NOVA_CONF, RESOURCES=resources))
        self.command(f'#!/bin/sh\nexec {sys.executable} "$@"\n', "python3")
        self.write("polling.yaml", CORE_POLLING)
        self.write("pipeline.yaml", CORE_PIPELINE)
        (root / "nova.conf").write_text("[libvirt]\nvirt_type = kvm\n")

    def command(self, script: str, name: str = "ceilometer-perf") -> None:
        """What is installed there."""
        path = self.root / "bin" / name
        path.write_text(script)
        path.chmod(0o755)

    def write(self, name: str, content: object) -> None:
        (self.root / "ceilometer" / name).write_text(yaml.safe_dump(content))

    def read(self, name: str) -> dict[str, list[dict[str, object]]]:
        text = (self.root / "ceilometer" / name).read_text()
        found: dict[str, list[dict[str, object]]] = yaml.safe_load(text)
        return found

    def ini(self, name: str) -> configparser.RawConfigParser:
        ini = configparser.RawConfigParser()
        ini.read(self.root / name)
        return ini

    def run(self, *mode: str, services: str = BOTH, code: int = 0) -> str:
        """Source the plugin; what it said."""
        script = CHECKOUT / "tests/unit/devstack.sh"
        words = [str(CHECKOUT), str(self.root), services, *mode]
        ran = subprocess.run(
            ["bash", str(script), *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, ran.stderr
        return ran.stdout + ran.stderr

    @property
    def calls(self) -> list[str]:
        return (self.root / "calls").read_text().splitlines()


@pytest.fixture
def devstack(tmp_path: Path) -> DevStack:
    return DevStack(tmp_path)


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> DevStack:
    """One that is set up, twice, and that tests only look at."""
    devstack = DevStack(tmp_path_factory.mktemp("stacked"), INSTALLED)
    for _ in range(2):  # stack.sh may run again
        devstack.run("stack", "post-config")
    return devstack


def test_shellcheck() -> None:
    assert shutil.which("shellcheck"), "shellcheck is missing: see bindep.txt"
    subprocess.run(
        ["shellcheck", "--external-sources", *SCRIPTS],
        cwd=CHECKOUT,
        check=True,
    )


def test_install(devstack: DevStack) -> None:
    devstack.run("stack", "install")
    assert f"setup_develop {CHECKOUT}" in devstack.calls
    assert "plugin_requires ceilometer-perf ceilometer" in devstack.calls


def test_nothing_where_no_agent_of_ours_runs(devstack: DevStack) -> None:
    before = sorted(devstack.root.rglob("*"))
    for mode in (("stack", "install"), ("stack", "post-config"), ("clean",)):
        devstack.run(*mode, services="ceilometer-acentral n-cpu")
    (devstack.root / "calls").unlink()  # those of settings
    assert sorted(devstack.root.rglob("*")) == before


def test_safe_events_come_into_nova_conf(stacked: DevStack) -> None:
    events = stacked.ini("nova.conf")["libvirt"]["enabled_perf_events"]
    assert f"enabled_perf_events = {events}\n" in NOVA_CONF
    assert stacked.ini("nova.conf")["libvirt"]["virt_type"] == "kvm"


def test_a_host_that_counts_nothing(devstack: DevStack) -> None:
    devstack.command('#!/bin/sh\necho "[libvirt]"\n')
    said = devstack.run("stack", "post-config", services="ceilometer-acompute")
    assert "can't count any perf event" in said
    assert "enabled_perf_events" not in devstack.ini("nova.conf")["libvirt"]


def test_a_probe_that_fails_ends_stack(devstack: DevStack) -> None:
    devstack.command("#!/bin/sh\nexit 2\n")
    said = devstack.run("stack", "post-config", code=1)
    assert "could not probe this host" in said


def test_options(stacked: DevStack) -> None:
    perf = stacked.ini("ceilometer/ceilometer.conf")["perf"]
    helper = stacked.root / "bin/privsep-helper"
    conf = stacked.root / "ceilometer/ceilometer.conf"
    assert dict(perf) == {
        "hardware_counters": "4",
        "resctrl_path": str(stacked.root / "resctrl"),
        "privsep_helper": f"sudo {helper} --config-file {conf}",
    }


def test_sudoers(stacked: DevStack) -> None:
    path = stacked.root / "sudoers"
    sample = (CHECKOUT / "etc/sudoers.d/ceilometer-perf").read_text()
    *_, line = path.read_text().splitlines()
    assert line.startswith(
        f"stack ALL = (root) NOPASSWD: {stacked.root}/bin/privsep-helper ^"
    )
    assert line.partition("^")[2] == sample.splitlines()[-1].partition("^")[2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o440


def test_clean(devstack: DevStack) -> None:
    (devstack.root / "sudoers").touch()
    devstack.run("clean")
    assert not (devstack.root / "sudoers").exists()


def test_every_meter_is_polled_and_published_once(stacked: DevStack) -> None:
    polling, pipeline = (
        stacked.read(name) for name in ("polling.yaml", "pipeline.yaml")
    )
    assert polling["sources"][0] == CORE_POLLING["sources"][0]
    assert pipeline["sources"][0] == CORE_PIPELINE["sources"][0]
    assert len(pipeline["sinks"]) == 2
    # Core takes it.
    conf = configuration()
    path = stacked.root / "ceilometer/polling.yaml"
    conf.set_override("cfg_file", str(path), group="polling")
    sources = PollingManager(conf).sources
    for meter in METERS:
        assert sum(s.support_meter(meter.name) for s in sources) == 1


def added_to(path: Path, content: object) -> object:
    """What becomes of the agents' file."""
    path.write_text(yaml.safe_dump(content))
    sample = CHECKOUT / "etc/ceilometer" / path.name
    assert add_sources.main(str(sample), str(path)) == 0
    return yaml.safe_load(path.read_text())


def test_what_is_chosen_already_stays_as_it_is(tmp_path: Path) -> None:
    everything = {
        "sources": [{"name": "all", "interval": 300, "meters": ["*"]}]
    }
    assert added_to(tmp_path / "polling.yaml", everything) == everything
    pipeline = {
        "sources": [{"name": "all", "meters": ["*"], "sinks": ["out"]}],
        "sinks": CORE_PIPELINE["sinks"],
    }
    assert added_to(tmp_path / "pipeline.yaml", pipeline) == pipeline


def test_part_of_it_is_chosen_already(tmp_path: Path) -> None:
    chosen = {"name": "x", "interval": 9, "meters": ["perf.hw.*"]}
    made: Any = added_to(tmp_path / "polling.yaml", {"sources": [chosen]})
    first, *added = made["sources"]
    assert first == chosen
    assert added
    assert "perf_hardware" not in [source["name"] for source in added]


def test_a_file_that_no_agent_would_start_with(devstack: DevStack) -> None:
    (devstack.root / "ceilometer/polling.yaml").write_text("sources: 1\n")
    said = devstack.run("stack", "post-config", code=2)
    assert "polling.yaml:1: sources must be a list" in said
    assert "Traceback" not in said


def test_gnocchi_gets_to_know_the_meters(stacked: DevStack) -> None:
    (instance,) = (
        resource
        for resource in stacked.read("gnocchi_resources.yaml")["resources"]
        if resource["resource_type"] == "instance"
    )
    metrics = instance["metrics"]
    assert isinstance(metrics, dict)
    assert {meter.name for meter in METERS} < metrics.keys()


def test_doctor_is_for_the_log(devstack: DevStack) -> None:
    assert "broken instances" in devstack.run("stack", "extra")


def test_unstack_removes_groups_of_ours_only(devstack: DevStack) -> None:
    groups = devstack.root / "resctrl/mon_groups"
    inner = devstack.root / "resctrl/gold/mon_groups"
    for folder in (groups, inner):
        for name in ("ceilometer-perf-1", "pqos"):
            (folder / name).mkdir(parents=True)
    devstack.run("unstack")
    assert [p.name for p in groups.iterdir()] == ["pqos"]
    assert [p.name for p in inner.iterdir()] == ["pqos"]


def test_packages_are_those_of_bindep() -> None:
    lines = (CHECKOUT / "bindep.txt").read_text().splitlines()
    packages = [
        line.split()[0] for line in lines if line.endswith("[platform:dpkg]")
    ]
    debs = CHECKOUT / "devstack/files/debs/ceilometer-perf"
    assert debs.read_text().split() == packages


def test_every_setting_is_documented() -> None:
    settings = (CHECKOUT / "devstack/settings").read_text()
    page = (CHECKOUT / "doc/source/devstack.rst").read_text()
    variables = re.findall(r"^(\w+)=", settings, re.MULTILINE)
    assert len(variables) >= 5
    assert [v for v in variables if f"``{v}``" not in page] == []
