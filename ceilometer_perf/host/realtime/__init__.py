# SPDX-License-Identifier: Apache-2.0
"""What realtime guests need of their host, and what of it this host has.

A new condition is a row in the table of one of these modules.
"""

from ceilometer_perf.host.realtime import (
    isolation,
    kernel,
    memory,
    processors,
    virtualization,
)
from ceilometer_perf.host.realtime.condition import Answer, State, answer
from ceilometer_perf.host.realtime.host import Host

__all__ = ["CONDITIONS", "Answer", "Host", "State", "examine"]

CONDITIONS = (
    *isolation.CONDITIONS,
    *kernel.CONDITIONS,
    *memory.CONDITIONS,
    *processors.CONDITIONS,
    *virtualization.CONDITIONS,
)


def examine(host: Host) -> list[Answer]:
    """Every condition, in the order of the table."""
    return [answer(condition, host) for condition in CONDITIONS]
