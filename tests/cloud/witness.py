# SPDX-License-Identifier: Apache-2.0
"""What a cloud's agents published, and what its QEMUs have really used."""

import bisect
import contextlib
import json
import operator
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil

from tests.cloud.compute import Compute
from tests.lab.stolen import stolen

TASK_CLOCK = "perf.sw.task_clock"
LOOKS = 0.1  # seconds between two looks at the processes
TICK = 1 / os.sysconf("SC_CLK_TCK")  # s


@dataclass(frozen=True, slots=True)
class Seen:
    """A sample that a host's agent published."""

    host: str
    instance: str
    meter: str
    kind: str
    volume: float
    #: When its counters were read, by the monotonic clock.
    at: float
    #: The same by the wall clock, as samples have it.
    timestamp: str
    since: str
    metadata: dict[str, Any]


_at = operator.attrgetter("at")


class Samples:
    """All that the agents have sent, each message read once."""

    def __init__(self, computes: Sequence[Compute]) -> None:
        self._computes = computes
        self._read = dict.fromkeys((c.name for c in computes), 0)
        #: By instance and meter, oldest first.
        self._seen: dict[tuple[str, str], list[Seen]] = defaultdict(list)
        self._lock = threading.Lock()

    def after(self, at: float, **wanted: str) -> list[Seen]:
        """Those that were read after a moment, oldest first.

        ``wanted``: what their fields have to be.
        """
        with self._lock:
            for compute in self._computes:
                for seen in self._new(compute):
                    series = self._seen[seen.instance, seen.meter]
                    bisect.insort(series, seen, key=_at)
            found = [
                each
                for (instance, meter), series in self._seen.items()
                if wanted.get("instance", instance) == instance
                and wanted.get("meter", meter) == meter
                for each in series[bisect.bisect(series, at, key=_at) :]
                if all(getattr(each, k) == v for k, v in wanted.items())
            ]
        return sorted(found, key=_at)

    def _new(self, compute: Compute) -> Iterator[Seen]:
        assert compute.record is not None
        if not compute.record.exists():
            return
        with compute.record.open("rb") as record:
            record.seek(self._read[compute.name])
            text = record.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[compute.name] += len(whole)
        for line in whole.splitlines():
            for sample in json.loads(line)["samples"]:
                metadata = sample["resource_metadata"]
                yield Seen(
                    compute.name,
                    sample["resource_id"],
                    sample["counter_name"],
                    sample["counter_type"],
                    sample["counter_volume"],
                    sample["monotonic_time"],
                    sample["timestamp"],
                    metadata["perf"].get("since", ""),
                    metadata,
                )


class Look(NamedTuple):
    """A QEMU's CPU time and what was stolen from all CPUs, in seconds."""

    at: float
    used: float
    stolen: float


@dataclass
class Life:
    """An instance's QEMU, from when it was seen first until it ended."""

    host: str
    instance: str
    started: float  # seconds since 1970
    looks: list[Look] = field(default_factory=list)

    def bounds(self, at: float) -> tuple[float, float]:
        """CPU time until then, in seconds: at least, and at most."""
        after = self._after(at)
        least = self.looks[after - 1].used if after else 0.0
        if after < len(self.looks):
            return least, self.looks[after].used
        return least, float("inf")

    def stolen(self, since: float, until: float) -> float:
        """What a clock may count beyond CPU time in between, in seconds."""
        first, last = (
            self.looks[max(0, self._after(at) - 1)] for at in (since, until)
        )
        return last.stolen - first.stolen

    def _after(self, at: float) -> int:
        return bisect.bisect(self.looks, at, key=_at)


class Witness:
    """Looks at all QEMUs of all hosts, until its block ends."""

    def __init__(self, computes: Sequence[Compute]) -> None:
        self._folders = {c.name: c.lab.run_dir / "qemu" for c in computes}
        self._lives: dict[tuple[str, int], Life] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def life(self, host: str, instance: str, at: float) -> Life | None:
        """The one that a host had at this moment."""
        found = None
        for each in list(self._lives.values()):
            if (each.host, each.instance) != (host, instance):
                continue
            first, last = each.looks[0][0], each.looks[-1][0]
            if first - 2 * LOOKS <= at <= last + 2 * LOOKS + 1:
                found = each
        return found

    def is_empty(self, host: str) -> bool:
        """Whether no instance runs there."""
        return not any(self._folders[host].glob("instance-*.pid"))

    def used(self, instance: str) -> float:
        """Of all QEMUs that it had anywhere, in seconds, as clocks count."""
        lives = [e for e in [*self._lives.values()] if e.instance == instance]
        return sum(
            e.looks[-1].used + e.looks[-1].stolen - e.looks[0].stolen
            for e in lives
        )

    def _watch(self) -> None:
        while not self._stop.wait(LOOKS):
            for host, folder in self._folders.items():
                for path in folder.glob("instance-*.pid"):
                    # It may end at any moment.
                    with contextlib.suppress(
                        OSError, ValueError, psutil.NoSuchProcess
                    ):
                        self._look(host, path)

    def _look(self, host: str, path: Path) -> None:
        pid = int(path.read_text())
        # Before the CPU time is read: what was used by then.
        stat = Path(f"/proc/{pid}/stat").read_text()
        at = time.monotonic()
        fields = stat.rpartition(")")[2].split()
        life = self._lives.get((host, pid))
        if life is None:
            process = psutil.Process(pid)
            words = process.cmdline()
            uuid = words[words.index("-uuid") + 1]
            life = Life(host, uuid, process.create_time())
            self._lives[host, pid] = life
        used = (int(fields[11]) + int(fields[12])) * TICK
        life.looks.append(Look(at, used, stolen()))
