# SPDX-License-Identifier: Apache-2.0
"""The perf events of a domain: which it has, and what is wrong with them."""

import pytest

from ceilometer_perf import guest
from ceilometer_perf.guest import xml
from ceilometer_perf.guest.elements import perf

DOMAIN = "<domain type='kvm'><name>a</name><perf>{}</perf></domain>"
ON = "<event name='cpu_clock' enabled='yes'/>"
OFF = "<event name='cpu_clock' enabled='no'/>"
BARE = "<event name='cpu_clock'/>"
OTHER = "<event name='page_faults' enabled='yes'/>"
ASKED = guest.Requirements(perf_events=("cpu_clock",))


@pytest.mark.parametrize(
    ("events", "found", "after"),
    [
        (ON, None, ON),
        (f"{OTHER}{ON}", None, f"{OTHER}{ON}"),
        ("", "missing", ON),
        (OTHER, "missing", f"{OTHER}{ON}"),
        (OFF, "turned off", ON),
        (BARE, "turned off", ON),
        (f"{ON}{ON}", "listed twice: libvirt refuses that", ON),
        (f"{OFF}{OTHER}{ON}", "listed twice: libvirt refuses that",
         f"{ON}{OTHER}"),
    ],
)  # fmt: skip
def test_events(events: str, found: str | None, after: str) -> None:
    before = DOMAIN.format(events)
    findings = [each.what for each in guest.check(before, ASKED)]
    assert findings == ([f"perf event cpu_clock is {found}"] if found else [])
    assert guest.apply(before, ASKED) == DOMAIN.format(after)


def test_a_domain_without_events_gets_them() -> None:
    made = guest.apply("<domain type='kvm'><devices/></domain>", ASKED)
    assert made == f"<domain type='kvm'><perf>{ON}</perf><devices/></domain>"


def test_nothing_asked_is_nothing_wrong() -> None:
    assert guest.check(DOMAIN.format(OFF), guest.Requirements()) == []


@pytest.mark.parametrize(
    ("events", "names"),
    [
        (ON + OTHER, ("cpu_clock", "page_faults")),
        (OFF, ()),
        ("<event enabled='yes'/>", ("",)),
    ],
)
def test_enabled(events: str, names: tuple[str, ...]) -> None:
    root = xml.parse(DOMAIN.format(events)).getroot()
    assert perf.enabled(root) == names
