# SPDX-License-Identifier: Apache-2.0
"""Bring a cloud up for people, look at it, and take it down."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from tests.chain.errors import ChainError
from tests.cloud.folder import CLOUDS, FAILED, PID, READY, STATE, remove
from tests.lab import locks
from tools.progress import stderr, steps
from tools.usage import cloud as usage

KEEPER = "tests.cloud.keep"  # a module
MEMORY = 3 << 30  # bytes
ENDING = 60.0  # seconds
WIDTH = 132  # where stdout is no terminal


def main() -> int:
    """Run a command; 2 and one line on stderr if it can't be done."""
    arguments = usage.parser().parse_args()
    try:
        return COMMANDS[arguments.command](arguments)
    except (ChainError, OSError) as error:
        stderr.print(f"cloud.sh: {error}", markup=False)
        return 2


def _keeper(folder: Path) -> int | None:
    return locks.holder(folder / PID)


def _up(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder.absolute()
    _make(folder)
    keeper = _start(folder, arguments)
    try:
        with steps() as step:
            for line in keeper.stdout or ():
                if line.startswith(FAILED):
                    raise ChainError(line.removeprefix(FAILED).rstrip())
                if line.rstrip() == READY:
                    _say_what_to_try(folder)
                    return 0
                step(line.rstrip())
    except KeyboardInterrupt:
        keeper.terminate()
        keeper.wait(ENDING)
        remove(folder)
        raise
    remove(folder)
    raise ChainError("the cloud's keeper was killed")


def _make(folder: Path) -> None:
    """The folder, if there can be a cloud in it."""
    if _keeper(folder) is not None:
        raise ChainError(f"a cloud is up in {folder} already: cloud.sh down")
    if (folder / PID).exists():
        remove(folder)  # of a keeper that was killed
    available = psutil.virtual_memory().available
    if available < MEMORY:
        raise ChainError(
            f"it needs {MEMORY >> 30} GiB of memory, and "
            f"{available / (1 << 30):.1f} GiB are available"
        )
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ChainError(
            f"--folder {folder}: it exists, and is no cloud's; name a new one"
        ) from None


def _start(
    folder: Path, arguments: argparse.Namespace
) -> subprocess.Popen[str]:
    """A new keeper."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", KEEPER, folder,
         "--computes", str(arguments.computes),
         "--interval", str(arguments.interval), "--owner", str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )  # fmt: skip


def _say_what_to_try(folder: Path) -> None:
    clouds = f"OS_CLIENT_CONFIG_FILE={folder / CLOUDS}"
    openstack = Path(sys.executable).with_name("openstack")
    print(f"clouds.yaml:  {folder / CLOUDS}")
    print(f"logs:         {folder}/*/*.log")
    print("Try:")
    print("  tools/cloud.sh demo")
    for user, words in ("admin", "hypervisor list"), ("demo", "server list"):
        print(f"  {clouds} {openstack} --os-cloud {user} {words}")
    print("  tools/cloud.sh down")


def _down(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder.absolute()
    pid = _keeper(folder)
    if pid is not None:
        keeper = psutil.Process(pid)
        keeper.terminate()
        try:
            keeper.wait(ENDING)
        except psutil.TimeoutExpired:
            # All that it has started ends with it.
            keeper.kill()
            keeper.wait(ENDING)
    there = (folder / PID).exists() or pid is not None
    if there:
        remove(folder)
    print("the cloud is down" if there else f"no cloud in {folder}")
    return 0


def _state(folder: Path) -> dict[str, Any]:
    if _keeper(folder) is None or not (folder / STATE).exists():
        raise ChainError(f"no cloud is up in {folder}: cloud.sh up")
    found: dict[str, Any] = json.loads((folder / STATE).read_text())
    return found


def _status(arguments: argparse.Namespace) -> int:
    state = _state(arguments.folder.absolute())
    for each in state["servers"].values():
        each["memory"] = _memory(each["pid"])
        each["running"] = each["memory"] is not None
    running = all(each["running"] for each in state["servers"].values())
    if arguments.json:
        print(json.dumps(state, indent=2))
    else:
        _print_servers(state)
    return 0 if running else 1


def _memory(pid: int) -> int | None:
    """Bytes that a server and its children have; None if it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return sum(int(each.memory_info().rss) for each in family)
    except psutil.NoSuchProcess:
        return None


def _print_servers(state: dict[str, Any]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("Service", "State", "MiB", "Log"):
        table.add_column(title, no_wrap=True)
    for name, each in state["servers"].items():
        running = each["running"]
        table.add_row(
            name,
            "running" if running else "ended",
            f"{each['memory'] >> 20}" if running else "-",
            each["log"],
        )
    console = Console(
        highlight=False, width=None if sys.stdout.isatty() else WIDTH
    )
    console.print(table)
    for name, host in state["hosts"].items():
        console.print(f"{name}: libvirt at {host['uri']}", markup=False)


def _demo(arguments: argparse.Namespace) -> int:
    from tools import cloud_demo  # takes seconds, which others need not

    folder = arguments.folder.absolute()
    return cloud_demo.run(folder, _state(folder), as_json=arguments.json)


COMMANDS = {"up": _up, "down": _down, "status": _status, "demo": _demo}
