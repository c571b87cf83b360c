# SPDX-License-Identifier: Apache-2.0
"""What the bench of realtime CPUs reads, and what it makes of that."""

from typing import Any

import pytest

from tests import interrupts
from tools.bench_realtime import LONGEST, Counts, Found, percentile, switches

INTERRUPTS = """\
           CPU0       CPU2
 24:          1          5  IO-APIC   5-edge      ACPI:Ged
NMI:          0          0   Non-maskable interrupts
RES:        100         20   Rescheduling interrupts
CAL:       2000        300   Function call interrupts
ERR:          7
MIS:          0
"""
STATUS = """\
Name:\tCPU 0/KVM
voluntary_ctxt_switches:\t19
nonvoluntary_ctxt_switches:\t101
"""


def test_interrupts_of_a_cpu() -> None:
    assert interrupts.parse(INTERRUPTS, 2) == {
        "24": 5, "NMI": 0, "RES": 20, "CAL": 300
    }  # fmt: skip
    assert interrupts.parse(INTERRUPTS, 0)[interrupts.FUNCTION_CALLS] == 2000
    assert interrupts.parse(INTERRUPTS, 1) == {}


def test_switches_of_both_kinds() -> None:
    assert switches(STATUS) == 120


def told(
    histogram: dict[str, int], cycles: int, latest: int
) -> dict[str, Any]:
    """As much of cyclictest's JSON as is read."""
    return {
        "thread": {
            "0": {"histogram": histogram, "cycles": cycles, "max": latest}
        }
    }


def test_figures() -> None:
    """Of the median round; a cycle's are what comes on top of nobody's."""
    off = Found([Counts(10, 2, 40)], [20])
    ours = Found(
        [Counts(11, 4, 40), Counts(5000, 4, 0), Counts(10, 4, 44)],
        [50, 40, 60],
    )
    figures = ours.figures(off)
    assert figures["cycles_per_second"] == 50
    assert figures["per_second"] == {
        "function_calls": 11, "rescheduling": 4, "vcpu_switches": 40
    }  # fmt: skip
    assert figures["per_cycle"] == {
        "function_calls": pytest.approx(1 / 50),
        "rescheduling": pytest.approx(2 / 50),
        "vcpu_switches": 0,
    }
    assert set(off.figures(off)["per_cycle"].values()) == {0}


def test_latency_of_all_rounds() -> None:
    """The histogram has no room for the latest."""
    found = Found([Counts(0, 0, 0)], [1])
    found.add_latency(told({"12": 500, "20": 10}, 511, 50_976))
    found.add_latency(told({"13": 480, "40": 9}, 489, 40))
    assert sum(found.late.values()) == 1000
    assert found.figures(found)["latency_us"] == {
        "median": 12, "p99": 20, "p99.9": 40, "max": 50_976
    }  # fmt: skip
    assert found.late[LONGEST] == 1


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 1), (0.51, 2), (0.9, 2), (0.91, 9), (1, 9)]
)
def test_percentile(share: float, expected: int) -> None:
    assert percentile({9: 1, 1: 5, 2: 4}, share) == expected


def test_percentile_of_nothing() -> None:
    assert percentile({}, 0.99) == 0
