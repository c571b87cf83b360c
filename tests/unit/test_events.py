# SPDX-License-Identifier: Apache-2.0
"""The table of perf events is libvirt's."""

import libvirt

from ceilometer_perf.events import EVENTS

PREFIX = "VIR_PERF_PARAM_"


def test_events_are_libvirts() -> None:
    assert set(EVENTS) == {
        value
        for name, value in vars(libvirt).items()
        if name.startswith(PREFIX)
    }


def test_each_is_another_one_to_the_kernel() -> None:
    pairs = {(event.kind, event.config) for event in EVENTS.values()}
    # Two of them are one: libvirt opens cpu_cycles for ref_cpu_cycles.
    assert len(pairs) == len(EVENTS) - 1


def test_each_has_the_version_that_brought_it() -> None:
    """Those of the others are on the page of the meters."""
    assert {
        event.name: event.since
        for event in EVENTS.values()
        if event.kind == "intel_cqm"
    } == {"cmt": (1, 3, 3), "mbmt": (1, 3, 5), "mbml": (1, 3, 5)}
