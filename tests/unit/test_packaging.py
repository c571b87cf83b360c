# SPDX-License-Identifier: Apache-2.0
"""A source release and what pip installs have all that they need."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ceilometer_perf.guest import compute_driver

ROOT = Path(__file__).parents[2]
PACKAGE = "ceilometer_perf"
SETUP = (sys.executable, "-c", "import setuptools; setuptools.setup()")
# Not of the release: what tools leave behind, and what only forges read.
IGNORED = ("*.egg-info", "__pycache__", ".*", "build", "dist")


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("packaging") / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*IGNORED))
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a source release, and in lib what wheels are of."""
    place = tmp_path_factory.mktemp("built")
    shutil.copytree(checkout, place, dirs_exist_ok=True)
    done = subprocess.run(
        [*SETUP, "sdist", "-d", "out", "build", "--build-lib", "out/lib"],
        cwd=place, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return place / "out"


def test_a_source_release_has_the_whole_checkout(
    checkout: Path, built: Path
) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    assert files(checkout) <= names


def test_the_package_has_its_data_and_no_more(
    checkout: Path, built: Path
) -> None:
    # Where Nova looks for its drivers.
    driver = f"nova/virt/{PACKAGE}.py"
    assert files(built / "lib") == {
        driver if name == driver else f"{PACKAGE}/{name}"
        for name in files(checkout / PACKAGE)
    }


def test_nova_finds_the_driver_beside_it(built: Path, tmp_path: Path) -> None:
    """Where pip installs both into one folder."""
    spec = importlib.util.find_spec("nova")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(
        Path(spec.origin).parent,
        tmp_path / "nova",
        ignore=shutil.ignore_patterns("tests", "__pycache__"),
        copy_function=os.symlink,
    )
    shutil.copytree(built / "lib", tmp_path, dirs_exist_ok=True)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"from {compute_driver.MODULE} import SlicesDriver\n"
        f"import {compute_driver.MODULE} as found; print(found.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(
        tmp_path / "nova" / "virt" / f"{PACKAGE}.py"
    ), done.stderr
