# SPDX-License-Identifier: Apache-2.0
"""Every scenario by name, each in a long and in a short version."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.soak import churn, faults, steady
from tests.soak.row import Row, Run


@dataclass(frozen=True)
class Scenario:
    """What is done, and how much of it."""

    what: str
    do: Callable[..., Row]
    long_: dict[str, Any]
    short_: dict[str, Any]

    def long(self, run: Run) -> Row:
        """Minutes."""
        return self.do(run, **self.long_)

    def short(self, run: Run) -> Row:
        """Seconds."""
        return self.do(run, **self.short_)


SCENARIOS = {
    "kill": Scenario(
        "libvirtd killed in the middle of a cycle",
        faults.kill, {"times": 20}, {"times": 3},
    ),
    "hang": Scenario(
        "libvirtd hung", faults.hang, {"seconds": 60}, {"seconds": 5},
    ),
    "socket": Scenario(
        "libvirtd later than the agent, its socket gone and back",
        faults.socket, {"times": 5}, {"times": 1},
    ),
    "guest": Scenario(
        "one guest of 20 hung", faults.guest, {"seconds": 60}, {"seconds": 5},
    ),
    "restart": Scenario(
        "libvirtd restarted under a spinning guest",
        faults.restart, {"times": 5, "hold": 15}, {"times": 1, "hold": 2},
    ),
    "live": Scenario(
        "an event enabled on a spinning guest",
        faults.live, {"times": 5, "hold": 15}, {"times": 1, "hold": 2},
    ),
    "churn": Scenario(
        "guests that come, go, pause, boot and are renamed",
        churn.churn, {"cycles": 500}, {"cycles": 12},
    ),
    "steady": Scenario(
        "50 guests and 5,000 cycles",
        steady.in_process, {"guests": 50, "cycles": 5000},
        {"guests": 10, "cycles": 300},
    ),
    "agent": Scenario(
        "50 guests and the real agent",
        steady.agent, {"guests": 50, "seconds": 120},
        {"guests": 10, "seconds": 5},
    ),
}  # fmt: skip
