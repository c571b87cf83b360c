# SPDX-License-Identifier: Apache-2.0
"""The real ceilometer-polling, as a process of its own."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fixtures

T = TypeVar("T")

POLLING = Path(sys.executable).with_name("ceilometer-polling")
NOTIFICATION = "oslo.messaging.notification.telemetry.polling"


def wait_for(condition: Callable[[], T], seconds: float, what: str) -> T:
    """What ``condition`` returns once that is true; fails when time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


class Agent(fixtures.Fixture):
    """Polls every second and writes each sample to its log.

    oslo.messaging's ``log`` driver stands where the broker would be, so that
    what is seen here is what the process sends.
    """

    def __init__(
        self, uri: str, *, meters: tuple[str, ...] = ("perf.*.*",),
        threads: int = 1, options: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self._uri = uri
        self._meters = meters
        self._threads = threads
        self._options = options

    def _setUp(self) -> None:
        self._folder = Path(self.useFixture(fixtures.TempDir()).path)
        self.log = self._folder / "ceilometer.log"
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
        config = self._folder / "ceilometer.conf"
        config.write_text(self._config())
        self.process = subprocess.Popen(
            [POLLING, "--polling-namespaces", "compute",
             "--config-file", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "stderr").open("w"),
        )  # fmt: skip
        self.addCleanup(self._stop)

    def _config(self) -> str:
        return f"""\
[DEFAULT]
host = lab
libvirt_uri = {self._uri}
log_file = {self.log}
pollsters_definitions_dirs = {self._folder}/pollsters.d
[polling]
cfg_file = {self._folder}/polling.yaml
threads_to_process_pollsters = {self._threads}
[publisher_notifier]
telemetry_driver = log
{self._options}
"""

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def lines(self, *, at: str = "WARNING") -> list[str]:
        """The log's lines of a level, without time and process id."""
        return [
            line.split(f" {at} ", 1)[1]
            for line in self._log_lines()
            if f" {at} " in line
        ]

    def samples(self) -> list[dict[str, Any]]:
        """Every sample sent so far, as the messages carry them."""
        return list(self._samples())

    def _samples(self) -> Iterator[dict[str, Any]]:
        for line in self._log_lines():
            if NOTIFICATION in line:
                message = json.loads(line[line.index("{") :])
                yield from message["payload"]["samples"]

    def _log_lines(self) -> list[str]:
        if not self.log.exists():
            return []
        return self.log.read_text().split("\n")[:-1]

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

        return wait_for(enough, seconds, f"{count} samples with {fields}")
