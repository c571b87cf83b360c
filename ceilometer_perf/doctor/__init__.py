# SPDX-License-Identifier: Apache-2.0
"""From nova.conf to Gnocchi: which link of the chain is broken, if any."""

from collections.abc import Iterator

from ceilometer_perf.doctor import agent, cache, helper, host, publishing
from ceilometer_perf.doctor.finding import (
    BrokenError,
    Finding,
    Link,
    State,
    fine,
)
from ceilometer_perf.doctor.patient import Patient

__all__ = ["LINKS", "Finding", "Link", "Patient", "State", "examine"]

POLLING = Link("polling.yaml", agent.polling)
#: In the order in which a number passes them.
LINKS = (
    Link("nova.conf", host.nova_conf, perf=True),
    Link("ceilometer.conf", agent.ceilometer_conf),
    Link("libvirt", host.libvirt),
    Link("instances", host.instances),
    Link("helper", helper.helper, perf=True),
    Link("XML", host.xml, perf=True),
    Link("PMU", host.pmu, perf=True),
    Link("entry points", agent.entry_points),
    POLLING,
    Link("gate", host.gate, perf=True),
    Link("cache", cache.cache),
    Link("pipeline.yaml", publishing.pipeline, compute=False),
    Link("Gnocchi", publishing.mapping, compute=False),
)


def examine(patient: Patient) -> Iterator[tuple[Link, Finding]]:
    """Each link in turn, up to the first broken one."""
    broken: Link | None = None
    try:
        elsewhere = agent.why_no_compute_host(patient)
    except BrokenError:
        yield from _only(POLLING, patient)
        return
    for link in LINKS:
        if elsewhere and link.compute:
            yield link, Finding(State.SKIPPED, elsewhere)
            elsewhere = agent.NO_COMPUTE_HOST  # why has been said
            continue
        if broken is not None:
            yield link, Finding(State.SKIPPED, f"{broken.name} is broken")
            continue
        finding = _examined(link, patient)
        if finding.state is State.BROKEN:
            broken = link
        yield link, finding


def _only(broken: Link, patient: Patient) -> Iterator[tuple[Link, Finding]]:
    """All links, of which none but a broken one is looked at."""
    skipped = Finding(State.SKIPPED, f"{broken.name} is broken")
    for link in LINKS:
        yield link, _examined(link, patient) if link is broken else skipped


def _examined(link: Link, patient: Patient) -> Finding:
    if link.perf and not agent.polls_perf(patient):
        return fine("no perf counter is polled")
    try:
        return link.check(patient)
    except BrokenError as error:
        return Finding(State.BROKEN, str(error), error.remedy)
