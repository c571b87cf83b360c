# SPDX-License-Identifier: Apache-2.0
"""A source release and what pip installs have all that they need."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

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
