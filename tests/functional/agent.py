# SPDX-License-Identifier: Apache-2.0
"""The real ceilometer-polling, as a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import fixtures

from tests import warm
from tests.functional.node import CONFIG, Node
from tests.lab import Lab

T = TypeVar("T")

POLLING = (
    str(Path(sys.executable).with_name("ceilometer-polling")),
    "--polling-namespaces",
    "compute",
    "--config-file",
)


def wait_for(
    condition: Callable[[], T], seconds: float, what: str, every: float = 0.1
) -> T:
    """What ``condition`` returns once that is true; fails when time is up.

    It is asked every so many seconds.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what}")


def _lines(path: Path) -> list[str]:
    """A file's complete lines."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


class Agent(fixtures.Fixture):
    """Polls every second; what it sends is spooled, see ``spool.py``.

    Its configuration, log and samples are in ``folder``, and stay there.
    """

    def __init__(
        self,
        folder: Path,
        lab: Lab,
        *,
        uri: str = "",
        meters: tuple[str, ...] = ("perf.hw.*", "perf.sw.*"),
        threads: int = 1,
        perf: str = "",
        node: Node | None = None,
        installed: bool = False,
        exporter: str = "",
    ) -> None:
        """``uri``: instead of the lab's; ``perf``: lines for ``[perf]``.

        By default without own counters; see ``counting`` in ``helper.py``.

        ``node``: run there, as the user without privilege that it has.
        ``installed``: the very command, which imports for seconds; there too.
        ``exporter``: the address and port at which Prometheus may ask.
        """
        super().__init__()
        self._folder = folder
        self.log = folder / "ceilometer.log"
        self.spool = folder / "spool"
        self._read = 0  # bytes of it
        self._sent: list[dict[str, Any]] = []
        self._uri = uri or lab.uri_ro
        self._run_dir = lab.run_dir / "qemu"
        self._meters = meters
        self._threads = threads
        self._perf = perf
        self._node = node
        self._installed = installed or node is not None
        self._exporter = exporter

    def _setUp(self) -> None:  # noqa: N802
        self._folder.mkdir(exist_ok=True)
        (self._folder / "polling.yaml").write_text(
            json.dumps(
                {
                    "sources": [
                        {
                            "name": "perf",
                            "interval": 1,
                            "meters": list(self._meters),
                        }
                    ]
                }
            )
        )
        environment = {
            **os.environ,
            "PYTHONPATH": str(warm.SPOOL),
            "SPOOL": str(self.spool),
        }
        with (self._folder / "stderr").open("w") as stderr:
            self.process = self._start(environment, stderr)
        self.addCleanup(self._stop)

    def _start(
        self, environment: dict[str, str], stderr: IO[str]
    ) -> subprocess.Popen[bytes] | warm.Process:
        if not self._installed:
            return warm.start(
                self._command(),
                environment=environment,
                stderr=stderr,
                session=True,
            )
        return subprocess.Popen(
            self._command(),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )

    def _command(self) -> list[str]:
        """Write the configuration; what starts an agent that has it."""
        if self._node is None:
            config = self._folder / "ceilometer.conf"
            config.write_text(self._config())
            return [*POLLING, str(config)]
        self._node.config.write_text(self._config())
        self._node.give(self._folder)
        return self._node.command(*POLLING, CONFIG)

    def _config(self) -> str:
        return f"""\
[DEFAULT]
host = lab
libvirt_uri = {self._uri}
log_file = {self.log}
pollsters_definitions_dirs = {self._folder}/pollsters.d
[compute]
fetch_extra_metadata = false
[polling]
cfg_file = {self._folder}/polling.yaml
threads_to_process_pollsters = {self._threads}
enable_prometheus_exporter = {bool(self._exporter)}
prometheus_listen_addresses = {self._exporter}
[publisher_notifier]
telemetry_driver = spool
[perf]
qemu_run_dir = {self._run_dir}
neighbours_file = {self._folder}/neighbours.json
counters = libvirt
{self._perf}
"""

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        # Its workers too, whatever they wait for.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def lines(self, *, at: str = "WARNING") -> list[str]:
        """The log's lines of a level, without time and process id."""
        return [
            line.split(f" {at} ", 1)[1]
            for line in _lines(self.log)
            if f" {at} " in line
        ]

    def errors(self) -> list[str]:
        """What Ceilometer or we say at that level, and what is raised."""
        raised = [x for x in _lines(self.log) if "Traceback" in x]
        return raised + [
            x for x in self.lines(at="ERROR") if "ceilometer" in x
        ]

    def samples(self) -> list[dict[str, Any]]:
        """Every sample sent so far, as the messages carry them."""
        return list(self._samples())

    def _samples(self) -> list[dict[str, Any]]:
        """The same; each message is read once, however often it is asked."""
        if self.spool.exists():
            with self.spool.open("rb") as spool:
                spool.seek(self._read)
                text = spool.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                self._sent += json.loads(line)["payload"]["samples"]
        return self._sent

    def wait_for_samples(
        self, count: int, *, seconds: float = 30, **fields: Any
    ) -> list[dict[str, Any]]:
        """The samples with these fields, once there are that many."""

        def enough() -> list[dict[str, Any]]:
            found = [
                sample
                for sample in self._samples()
                if all(sample[k] == v for k, v in fields.items())
            ]
            return found if len(found) >= count else []

        try:
            return wait_for(enough, seconds, f"{count} samples with {fields}")
        except AssertionError as error:
            words = " / ".join(_lines(self.log)[-5:])
            raise AssertionError(f"{error}; its log ends: {words}") from None
