# SPDX-License-Identifier: Apache-2.0
"""Every scenario by name, each in a long and in a short version."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.soak import churn, faults, own, steady
from tests.soak.row import Row, Run


@dataclass(frozen=True)
class Scenario:
    """What is done, and how much of it."""

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
    "kill": Scenario(faults.kill, {"times": 20}, {"times": 3}),
    "hang": Scenario(faults.hang, {"seconds": 60}, {"seconds": 5}),
    "socket": Scenario(faults.socket, {"times": 5}, {"times": 1}),
    "guest": Scenario(faults.guest, {"seconds": 60}, {"seconds": 5}),
    "restart": Scenario(
        faults.restart, {"times": 5, "hold": 15}, {"times": 1, "hold": 2},
    ),
    "live": Scenario(
        faults.live, {"times": 5, "hold": 15}, {"times": 1, "hold": 2},
    ),
    "churn": Scenario(
        churn.churn, {"cycles": 500}, {"cycles": 12},
    ),
    "own": Scenario(
        own.lifecycles, {"lives": 500, "at_once": 20},
        {"lives": 10, "at_once": 5},
    ),
    "many": Scenario(own.many, {"guests": 200}, {"guests": 10}),
    "steady": Scenario(
        steady.in_process, {"guests": 50, "cycles": 5000},
        {"guests": 10, "cycles": 300},
    ),
    "agent": Scenario(
        steady.agent, {"guests": 50, "seconds": 120},
        {"guests": 10, "seconds": 5},
    ),
}  # fmt: skip
