# SPDX-License-Identifier: Apache-2.0
"""The pages on deployment, and the tree, say the same."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ceilometer_perf.host.resctrl import PREFIX
from ceilometer_perf.options import OPTS

CHECKOUT = Path(__file__).parents[2]
ETC = CHECKOUT / "etc"
SOURCE = CHECKOUT / "doc" / "source"
PAGE = (SOURCE / "install.rst").read_text()
HOST = ("ceilometer", "sudoers.d", "systemd")


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(CHECKOUT))
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_file_for_a_host_has_a_place() -> None:
    table = PAGE.partition("Where each file goes")[2].partition("Upgrade")[0]
    rows = set(re.findall(r"^   \* - ``(etc/\S+)``$", table, re.MULTILINE))
    assert rows == {name for top in HOST for name in files(ETC / top)}


def test_every_other_file_is_on_a_page() -> None:
    """By its own name, or that of a folder of examples."""
    pages = "".join(page.read_text() for page in SOURCE.glob("*.rst"))
    lost = [
        name
        for name in sorted(files(ETC))
        if name not in pages
        and not any(
            f"``{folder}``" in pages for folder in Path(name).parents[:-2]
        )
    ]
    assert lost == []


@pytest.mark.parametrize("page", ["install", "kolla-ansible", "packaging"])
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (SOURCE / f"{page}.rst").read_text()
    named = set(re.findall(r"(?<![\w/])etc/[\w./-]*\w", text))
    assert named
    assert [name for name in named if not (CHECKOUT / name).exists()] == []


def test_packages_are_those_of_bindep() -> None:
    lines = (CHECKOUT / "bindep.txt").read_text().splitlines()
    build = [x.split()[0] for x in lines if x.endswith("[platform:dpkg]")]
    missing = [name for name in build if f"``{name}``" not in PAGE]
    assert missing == ["python3-venv"]  # the agent's Python is there already


def test_what_is_left_behind_is_removed(tmp_path: Path) -> None:
    """The command of the page, on a folder like resctrl's."""
    (command,) = re.findall(r"^ +(find /sys/fs/resctrl .*)$", PAGE, re.M)
    group = f"mon_groups/{PREFIX}6f1c1d0e-6a4f-4f0a-9a52-0d0c3d0b7a01"
    for folder in (group, f"gold/{group}", "mon_groups/pqos", "info"):
        (tmp_path / folder).mkdir(parents=True)
    here = command.replace("/sys/fs/resctrl", str(tmp_path))
    subprocess.run(["bash", "-ec", here], check=True)
    assert not (tmp_path / group).exists()
    assert not (tmp_path / "gold" / group).exists()
    assert (tmp_path / "mon_groups/pqos").exists()
    assert (tmp_path / "info").exists()


def test_the_sudoers_file_of_the_page(tmp_path: Path) -> None:
    """sed as on the page, and then the command that the page configures."""
    (sed,) = re.findall(r"sed 's\|(\S+)\|(\S+)\|'", PAGE)
    (helper,) = re.findall(r"^ +privsep_helper = sudo (\S+) (.*)$", PAGE, re.M)
    sample = (ETC / "sudoers.d/ceilometer-perf").read_text()
    made = sample.replace(*sed)
    assert made != sample
    assert (
        f"NOPASSWD: {helper[0]} ^{helper[1].replace('.', chr(92) + '.')} "
        in (made)
    )
    path = tmp_path / "sudoers"
    path.write_text(made)
    subprocess.run(["visudo", "-cqf", path], check=True)
    (opt,) = (opt for opt in OPTS if opt.name == "privsep_helper")
    assert opt.default.endswith(helper[1])


def test_the_units(tmp_path: Path) -> None:
    """systemd takes the unit, with its drop-in."""
    assert shutil.which("systemd-analyze"), "systemd is missing: bindep.txt"
    shutil.copytree(ETC / "systemd", tmp_path, dirs_exist_ok=True)
    unit = tmp_path / "ceilometer-agent-compute.service"
    text = unit.read_text()
    (command,) = re.findall(r"^ExecStart=(\S+)", text, re.MULTILINE)
    assert f"{command.removesuffix('ceilometer-polling')}pip" in PAGE
    unit.write_text(text.replace(command, "/bin/true"))
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
