# SPDX-License-Identifier: Apache-2.0
"""A process that has the privileged helper do things."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ceilometer_perf.host.resctrl import Resctrl
from tests.functional.machine import tasks
from tests.lab import Guest, Lab
from tests.lab.lab import FAKE_PMU

HELPER = Path(sys.executable).with_name("privsep-helper")
COUNTING = "ceilometer_perf.privsep.counting"

#: The helper's other end; says what became of each call.
CLIENT = """
import json, sys
from oslo_config import cfg
from ceilometer_perf import privsep
cfg.CONF([], project="nobody", default_config_files=[])
helper = privsep.Helper(sys.argv[1])
for line in sys.stdin:
    function, *arguments = json.loads(line)
    try:
        answer = getattr(helper, function)(*arguments)
    except Exception as exc:
        answer = [type(exc).__name__, getattr(exc, "errno", None)]
    print(json.dumps(answer), flush=True)
"""


def configuration(lab: Lab) -> str:
    """What the helper's configuration file has to say."""
    return (
        f"[perf]\nresctrl_path = {lab.resctrl_path}\n"
        f"qemu_run_dir = {lab.run_dir}/qemu\n"
    )


def counting(
    lab: Lab, folder: Path, *, within: str = "env", **options: object
) -> str:
    """Lines for [perf] of an agent in this folder that counts by itself.

    ``within``: what starts its helper, which has the lab's emulated PMU, with
    more of the environment that that takes (``fakepmu.c``).
    """
    lines = {
        "counters": "auto",
        # Little CPU time says something, and ticks are less than a twentieth.
        "coverage_floor": 0.5,
        "privsep_helper": f"{within} LD_PRELOAD={lab.folder / FAKE_PMU} "
        f"{HELPER} --config-file {folder}/ceilometer.conf",
        **options,
    }
    return "\n".join(f"{name} = {value}" for name, value in lines.items())


def helpers(folder: Path, context: str = "") -> list[int]:
    """The privileged helpers of the agent in this folder."""
    pattern = (
        f"^[^ ]*python[^ ]* {HELPER} --config-file {folder}/ceilometer.conf "
        f"--privsep_context {context}"
    )
    done = subprocess.run(
        ["pgrep", "-f", pattern], capture_output=True, text=True
    )
    return [int(pid) for pid in done.stdout.split()]


def counters_open(pid: int) -> int:
    """How many perf events a process has open."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed by now
            found += "perf_event" in str(link.readlink())
    return found


class Client:
    """Asks the helper that a command starts."""

    def __init__(
        self, folder: Path, helper: str, *, within: Sequence[str] = ()
    ) -> None:
        """``within``: what the process is started by, and ends as."""
        self._helper = helper
        self._others = frozenset(self._running())
        self._process = subprocess.Popen(
            [*within, sys.executable, "-c", CLIENT, helper],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("w"),
            text=True,
        )

    def ask(self, *call: str) -> object:
        """None, or the error's class and number."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(call), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def helpers(self) -> list[int]:
        """The processes of the helper, not those of another run."""
        return [pid for pid in self._running() if pid not in self._others]

    def _running(self) -> list[int]:
        # Without what starts it: sudo stays, oslo.rootwrap doesn't.
        words = "".join(self._helper.rpartition("privsep-helper")[1:])
        done = subprocess.run(
            ["pgrep", "-f", f"^[^ ]*python[^ ]* [^ ]*{words}"],
            capture_output=True,
            text=True,
        )
        return [int(pid) for pid in done.stdout.split()]

    def end(self) -> None:
        self._process.communicate()


def watches_and_releases(lab: Lab, client: Client, name: str) -> None:
    """Assert that a helper of root's makes a group, and removes it."""
    guest = lab.start(Guest(name, "paused", events=()))
    # Another agent's may be about to end.
    before = client.helpers()
    assert client.ask("watch", guest.domain_name, guest.uuid) is None
    (path,) = Resctrl(lab.resctrl_path).ours()[guest.uuid]
    threads = Path(f"/proc/{lab.qemu_pid(guest)}/task").iterdir()
    assert set(tasks(path)) == {int(task.name) for task in threads}
    (helper,) = set(client.helpers()) - set(before)
    assert Path(f"/proc/{helper}").stat().st_uid == 0
    assert client.ask("release", guest.uuid) is None
    assert not path.exists()
    lab.remove(guest)
