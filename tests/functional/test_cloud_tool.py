# SPDX-License-Identifier: Apache-2.0
"""tools/cloud.sh says in a line why there is no cloud, and leaves none."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.chain.errors import ChainError
from tests.chain.server import LOOPBACK, Server
from tests.cloud import image, virt
from tests.cloud.cloud import Cloud
from tests.cloud.folder import PID
from tests.lab import kvm, locks
from tools import cloud
from tools.start import main

SCRIPT = Path(__file__).parents[2] / "tools" / "cloud.sh"
PATIENCE = 300.0  # seconds; databases may have to be made first


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path, as that of a socket may not be longer."""
    with tempfile.TemporaryDirectory(prefix="ceilometer-perf-") as outer:
        Path(outer).chmod(0o755)  # PostgreSQL has a user of its own
        yield Path(outer) / "cloud"


def up(
    folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:  # fmt: skip
    """Its one line on stderr, and nothing else."""
    words = ["cloud", "up", "--folder", str(folder)]
    monkeypatch.setattr(sys, "argv", words)
    assert cloud.main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line.removeprefix("cloud.sh: ")


def test_too_little_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    little = SimpleNamespace(available=3 << 29)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    assert up(folder, monkeypatch, capsys) == (
        "it needs 3 GiB of memory, and 1.5 GiB are available"
    )
    assert not folder.exists()


def test_one_is_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder.mkdir()
    lock = locks.claim(folder / PID)
    assert up(folder, monkeypatch, capsys) == (
        f"a cloud is up in {folder} already: cloud.sh down"
    )
    os.close(lock)
    assert (folder / PID).exists()


def test_a_folder_that_is_no_clouds(
    folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder.mkdir()
    (folder / "thesis.tex").touch()
    assert up(folder, monkeypatch, capsys) == (
        f"--folder {folder}: it exists, and is no cloud's; name a new one"
    )
    assert (folder / "thesis.tex").exists()


def test_a_port_that_is_taken(folder: Path) -> None:
    made = Cloud(folder)
    port = made.site.ports["nova"]
    with socket.socket() as other:
        other.bind((LOOPBACK, port))
        other.listen()
        with pytest.raises(ChainError, match=f"nova-api: port {port} is tak"):
            made.__enter__()
    assert not folder.exists()


def test_a_server_that_ended_while_another_serves_there(
    tmp_path: Path,
) -> None:
    server = Server(
        "nova-api", ["sh", "-c", "echo port in use; exit 1"],
        tmp_path / "log", ready=lambda: True,
    )  # fmt: skip
    server.start()
    assert server.process is not None
    server.process.wait()
    with pytest.raises(ChainError, match="nova-api ended: port in use"):
        server.wait()


@pytest.mark.parametrize(
    ("usable", "sector", "kind"),
    [
        (False, image.EXIT, "qemu"),
        # It takes too long, as it never ends.
        (True, image.IDLE, "qemu"),
    ],
)
def test_guests_run_without_kvm(
    monkeypatch: pytest.MonkeyPatch, *, usable: bool, sector: bytes, kind: str
) -> None:
    monkeypatch.setattr(kvm, "usable", lambda: usable)
    monkeypatch.setattr(image, "EXIT", sector)
    assert virt.virt_type.__wrapped__() == kind


def test_the_end_of_a_boot_sector_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kvm, "usable", lambda: True)
    monkeypatch.setattr(virt, "ACCELERATOR", "tcg")
    monkeypatch.setattr(virt, "PATIENCE", 60.0)
    assert virt.virt_type.__wrapped__() == "kvm"


@pytest.mark.parametrize(
    ("signum", "code", "said"),
    [
        (signal.SIGTERM, 143,
         "cloud.sh: terminated; everything is cleared away"),
        (signal.SIGKILL, -9, ""),
    ],
)  # fmt: skip
def test_killed_in_the_middle(
    folder: Path, signum: signal.Signals, code: int, said: str
) -> None:
    command = [str(SCRIPT), "up", "--folder", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tool:
        assert tool.stderr is not None
        seen = []
        for line in tool.stderr:
            seen.append(line)
            if line.startswith("Starting libvirtd"):
                break
        else:
            pytest.fail(f"it did not come to it: {seen}")
        tool.send_signal(signum)
        out, err = tool.communicate(timeout=PATIENCE)
    assert (tool.returncode, out) == (code, "")
    assert "".join(err.splitlines()[-1:]) == said
    deadline = time.monotonic() + PATIENCE
    while folder.exists() or _processes(folder):
        assert time.monotonic() < deadline, _processes(folder)
        time.sleep(0.2)
    mounts = Path("/proc/self/mounts").read_text()
    assert str(folder) not in mounts


def _processes(folder: Path) -> list[str]:
    found = psutil.process_iter(["cmdline"])
    lines = (" ".join(each.info["cmdline"] or ()) for each in found)
    return [line for line in lines if str(folder) in line]


def test_a_tool_that_is_terminated_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        cloud, "main", lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    try:
        assert main("cloud") == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == (
        "cloud.sh: terminated; everything is cleared away\n"
    )
