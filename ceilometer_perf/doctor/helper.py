# SPDX-License-Identifier: Apache-2.0
"""The link of the helper that counts: started as the agent would start it."""

import errno
import os

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.doctor.finding import Finding, fine, listed, warning
from ceilometer_perf.doctor.patient import Patient
from ceilometer_perf.plural import number_of

WITHOUT = (
    "without it only libvirt's counters are published, while they are right"
)


def helper(patient: Patient) -> Finding:
    """It may be started, and the kernel lets it count."""
    if not patient.counts_itself:
        return fine("not used ([perf] counters = libvirt)")
    numbers = patient.helper
    if isinstance(numbers, Exception):
        why = _why(numbers)
        return warning(
            f"as user {os.geteuid()}: {why.reason}; {WITHOUT}",
            why.remedy or "set [perf] counters = libvirt",
        )
    tried = zip(patient.parts.settings.own_events, numbers, strict=True)
    lacking = [event for event, number in tried if number]
    counted = len(numbers) - len(lacking)
    if not counted:
        why = verdicts.not_counted(numbers[0])
        return warning(
            f"it counts no event of [perf] own_events: {why.reason}; "
            f"{WITHOUT}",
            why.remedy or "set [perf] counters = libvirt",
        )
    text = f"it counts {number_of(counted, 'event')}"
    return fine(f"{text}; not here: {listed(lacking)}" if lacking else text)


def _why(exc: Exception) -> Judgement:
    number = exc.errno if isinstance(exc, OSError) else None
    if number in (errno.EACCES, errno.EPERM, errno.ENOSYS):
        return verdicts.not_counted(number)  # the kernel's word, not sudo's
    notes: list[str] = getattr(exc, "__notes__", [])
    # What its command said, rather than that it failed.
    why = notes[-1] if notes else f"{type(exc).__name__}: {exc}"
    return verdicts.helper_failed(why)
