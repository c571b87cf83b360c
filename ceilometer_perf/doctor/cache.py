# SPDX-License-Identifier: Apache-2.0
"""The link of L3 occupancy and memory bandwidth, past the gate."""

from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.doctor import agent
from ceilometer_perf.doctor.finding import (
    BrokenError,
    Finding,
    fine,
    warning,
)
from ceilometer_perf.doctor.host import commonest
from ceilometer_perf.doctor.patient import Patient
from ceilometer_perf.meters import RDT_NAMES
from ceilometer_perf.plural import number_of

_GOOD = (Verdict.OK, Verdict.NEW)


def cache(patient: Patient) -> Finding:
    """What is polled of it can be read, of every instance."""
    polled = set(agent.polled(patient))
    asked, others = polled & RDT_NAMES, polled - RDT_NAMES
    if not asked:
        return fine("not polled")
    missing = [
        (instance, instance.rdt[name])
        for instance in patient.running
        for name in sorted(asked)
        if instance.rdt[name].verdict not in _GOOD
    ]
    if not missing:
        return fine(
            f"{number_of(len(asked), 'meter')} of each running instance"
        )
    if patient.left_alone == patient.running:
        return warning(*commonest(missing))
    lacks = {judgement for _, judgement in missing}
    if others and all(
        each.verdict is Verdict.HOST_LACKS and not each.remedy
        for each in lacks
    ):
        return fine(f"nothing to read: {commonest(missing)[0]}")
    if not others and len(missing) == len(asked) * len(patient.running):
        raise BrokenError(*commonest(missing))
    return warning(*commonest(missing))
