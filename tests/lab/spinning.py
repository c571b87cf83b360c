# SPDX-License-Identifier: Apache-2.0
"""Whether all of a guest's vCPUs spin.

Not every KVM starts the second one: that shows at once, or never.
"""

import time
from pathlib import Path

ENOUGH = 20_000_000  # ns on a CPU or waiting for one
PATIENCE = 1.0  # seconds
EVERY = 0.02  # seconds


def all_spin(pid: int, vcpus: int) -> bool:
    """Whether a QEMU's vCPUs all want a CPU, within a second.

    On a busy host they may not get one for a while: waiting counts as well.
    """
    deadline = time.monotonic() + PATIENCE
    before: dict[str, int] = {}
    while True:
        wanted = {task.name: _wants(task) for task in _vcpus(pid)}
        enough = [
            wants - before.setdefault(tid, wants) >= ENOUGH
            for tid, wants in wanted.items()
        ]
        if enough == [True] * vcpus:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(EVERY)


def _vcpus(pid: int) -> list[Path]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [
        task
        for task in tasks
        if (task / "comm").read_text().startswith("CPU ")
    ]


def _wants(task: Path) -> int:
    """How long it was on a CPU or waited for one, in ns."""
    on_cpu, waited, _ = (task / "schedstat").read_text().split()
    return int(on_cpu) + int(waited)
