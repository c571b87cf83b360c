# SPDX-License-Identifier: Apache-2.0
"""etc/kolla, as kolla and kolla-ansible take it.

kolla-build writes its Dockerfiles, and kolla-ansible's own role the agents'
configuration. No image is built and no container is made.
"""

import json
import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from ceilometer_perf import options
from ceilometer_perf.doctor import agent, agent_conf, publishing
from ceilometer_perf.doctor.finding import State
from ceilometer_perf.doctor.patient import Patient
from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles

CHECKOUT = Path(__file__).parents[2]
KOLLA = CHECKOUT / "etc" / "kolla"
HERE = Path(__file__).parent / "kolla"
BIN = Path(sys.executable).parent
ANSIBLE = Path(sys.prefix) / "share" / "kolla-ansible" / "ansible"
PATCH = KOLLA / "kolla-ansible-pid-mode.patch"

#: What has no default, or would be asked of a network.
SITE = {
    "config_owner_user": "root",
    "config_owner_group": "root",
    "enable_gnocchi": True,
    "ceilometer_keystone_password": "secret",
    "rpc_transport_url": "rabbit://openstack@127.0.0.1:5672//",
    "notify_transport_url": "rabbit://openstack@127.0.0.1:5672//",
    "kolla_internal_vip_address": "127.0.0.1",
}


def run(*words: str | Path, **environment: str) -> str:
    ran = subprocess.run(
        [str(word) for word in words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


class Site:
    """One host that kolla-ansible wrote the configuration of."""

    def __init__(self, folder: Path, roles: Path, *options: str) -> None:
        """``options``: of ansible-playbook."""
        self.folder = folder
        site = {
            **SITE,
            "node_config": str(folder),
            "node_config_directory": str(folder),
            "node_custom_config": str(KOLLA / "config"),
        }
        (folder / "site.yml").write_text(yaml.safe_dump(site))
        variables = [
            *sorted(ANSIBLE.glob("group_vars/all/*.yml")),
            KOLLA / "globals.yml",
            folder / "site.yml",
        ]
        run(
            BIN / "ansible-playbook",
            f"--inventory={HERE / 'inventory'}",
            *(f"--extra-vars=@{path}" for path in variables),
            *options,
            HERE / "play.yml",
            ANSIBLE_PIPELINING="True",  # one process a task, not five
            ANSIBLE_PYTHON_INTERPRETER=sys.executable,
            ANSIBLE_ROLES_PATH=str(roles),
            ANSIBLE_LIBRARY=str(ANSIBLE / "library"),
            ANSIBLE_MODULE_UTILS=str(ANSIBLE / "module_utils"),
            ANSIBLE_ACTION_PLUGINS=str(ANSIBLE / "action_plugins"),
            ANSIBLE_FILTER_PLUGINS=str(ANSIBLE / "filter_plugins"),
            ANSIBLE_HOME=str(folder / "ansible"),
        )

    @property
    def container(self) -> dict[str, Any]:
        text = (self.folder / "container.json").read_text()
        found: dict[str, Any] = json.loads(text)
        return found

    def patient(self, service: str) -> Patient:
        """What doctor would look at in the container of an agent.

        Its files are where config.json says.
        """
        source = self.folder / service
        etc = self.folder / f"{service}-etc"
        etc.mkdir()
        for file in json.loads((source / "config.json").read_text())[
            "config_files"
        ]:
            name = Path(file["source"]).name
            shutil.copy(source / name, etc / Path(file["dest"]).name)
        conf = agent_conf.read([str(etc / "ceilometer.conf")])
        return Patient(conf, None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), ANSIBLE / "roles")


@pytest.mark.parametrize("base", ["debian", "rocky"])
def test_image(tmp_path: Path, base: str) -> None:
    run(
        BIN / "kolla-build", "--template-only", f"--base={base}",
        f"--template-override={KOLLA / 'template-override.j2'}",
        f"--work-dir={tmp_path}", "^ceilometer-",
    )  # fmt: skip
    made = {
        path.parent.name: path.read_text()
        for path in tmp_path.rglob("Dockerfile")
    }
    lines = made["ceilometer-compute"].splitlines()
    (at,) = (i for i, line in enumerate(lines) if "ceilometer-perf" in line)
    assert lines[at - 1].startswith('RUN sed -e "/^libvirt-python===/d"')
    assert "pip --no-cache-dir install" in lines[at]
    assert any("python3-libvirt" in line for line in lines[:at])
    others = [n for n, text in made.items() if "ceilometer-perf" in text]
    assert others == ["ceilometer-compute"]


def test_polling_is_core_s_and_ours(site: Site) -> None:
    def sources(path: Path) -> list[Any]:
        found: list[Any] = yaml.safe_load(path.read_text())["sources"]
        return found

    core = Path(sys.prefix) / "etc/ceilometer/polling.yaml"
    assert sources(site.folder / "ceilometer-compute/polling.yaml") == [
        *sources(core),
        *sources(CHECKOUT / "etc/ceilometer/polling.yaml"),
    ]


def test_doctor_is_content_in_the_containers(site: Site) -> None:
    compute = site.patient("ceilometer-compute")
    assert agent.polling(compute).state is State.OK
    settings = options.settings(compute.conf)
    assert settings.privsep_helper.startswith("/var/lib/kolla/venv/bin/")
    notification = site.patient("ceilometer-notification")
    assert publishing.pipeline(notification).state is State.OK


def test_container(site: Site) -> None:
    tag = site.container["image"].rpartition(":")[2]
    assert tag.endswith("-perf")
    page = (CHECKOUT / "doc/source/kolla-ansible.rst").read_text()
    assert f" --tag {tag} " in page
    assert site.container["privileged"] is True
    volumes = site.container["volumes"]
    assert "/sys/fs/resctrl:/sys/fs/resctrl" in volumes
    assert "/run:/run:shared" in volumes  # PID files and libvirt's socket


def test_pid_mode_takes_the_patch(site: Site, tmp_path: Path) -> None:
    assert "pid_mode" not in site.container
    shutil.copytree(ANSIBLE / "roles", tmp_path / "ansible/roles")
    run("patch", "-p1", "-d", tmp_path, "-i", PATCH)
    (tmp_path / "site").mkdir()
    patched = Site(
        tmp_path / "site",
        tmp_path / "ansible/roles",
        "--start-at-task=Tell what the container is made of",
    )
    assert patched.container["pid_mode"] == "host"
    handlers = tmp_path / "ansible/roles/ceilometer/handlers/main.yml"
    (handler,) = (
        each["kolla_container"]
        for each in yaml.safe_load(handlers.read_text())
        if each["name"] == "Restart ceilometer-compute container"
    )
    assert handler["pid_mode"] == "{{ service.pid_mode | default(omit) }}"


def test_globals_can_be_appended(tmp_path: Path) -> None:
    """As the page says: Ansible takes one document in a file, not two."""
    whole = tmp_path / "globals.yml"
    example = ANSIBLE.parent / "etc_examples" / "kolla" / "globals.yml"
    ours = KOLLA / "globals.yml"
    whole.write_text(example.read_text() + ours.read_text())
    said = run(
        BIN / "ansible", "localhost", "--module-name=debug",
        "--args=msg={{ ceilometer_compute_extra_volumes | length }}",
        f"--extra-vars=@{whole}",
        "--extra-vars={ceilometer_extra_volumes: []}",
        ANSIBLE_HOME=str(tmp_path),
    )  # fmt: skip
    assert '"msg": "1"' in said or '"msg": 1' in said


def test_messages_survive_the_broker(site: Site) -> None:
    """What the page says is set already, of our own sample."""
    ours, theirs = (ConfigParser(strict=False) for _ in range(2))
    ours.read(CHECKOUT / "etc" / "ceilometer" / "messaging.conf")
    theirs.read(site.folder / "ceilometer-compute" / "ceilometer.conf")
    for option, value in ours["oslo_messaging_rabbit"].items():
        assert theirs["oslo_messaging_rabbit"][option] == value


def test_cloudkitty() -> None:
    tasks = (ANSIBLE / "roles/cloudkitty/tasks/config.yml").read_text()
    defaults = (ANSIBLE / "roles/cloudkitty/defaults/main.yml").read_text()
    name = "cloudkitty_custom_metrics_yaml_file"
    assert f"{{{{ node_custom_config }}}}/cloudkitty/{{{{ {name} }}}}" in tasks
    assert f'{name}: "metrics.yml"' in defaults


def test_nova_compute() -> None:
    tasks = (ANSIBLE / "roles/nova-cell/tasks/config.yml").read_text()
    for folder in ("nova", "nova/{{ inventory_hostname }}"):
        place = (
            f"{{{{ node_custom_config }}}}/{folder}/{{{{ item.key }}}}.conf"
        )
        assert f'- "{place}"' in tasks
    conf = nova_conf.read(
        NovaFiles((KOLLA / "config/nova/nova-compute.conf",))
    )
    software = {e for e in EVENTS if EVENTS[e].kind == "software"}
    assert "task_clock" in conf.perf_events
    assert software.issuperset(conf.perf_events)
