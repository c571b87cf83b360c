# SPDX-License-Identifier: Apache-2.0
"""The link of the helper that counts: started as the agent would start it."""

import errno
import os
import warnings

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.doctor.finding import Finding, fine, listed, warning
from ceilometer_perf.doctor.patient import Patient
from ceilometer_perf.options import Settings
from ceilometer_perf.plural import number_of

WITHOUT = (
    "without it only libvirt's counters are published, while they are right"
)


def helper(patient: Patient) -> Finding:
    """It may be started, and the kernel lets it count."""
    settings = patient.parts.settings
    if not patient.counts_itself:
        return fine("not used ([perf] counters = libvirt)")
    try:
        numbers = trial(settings)
    except Exception as exc:  # whatever privsep makes of a failure
        why = _why(exc)
        return warning(
            f"as user {os.geteuid()}: {why.reason}; {WITHOUT}",
            why.remedy or "set [perf] counters = libvirt",
        )
    lacking = [
        e for e, n in zip(settings.own_events, numbers, strict=True) if n
    ]
    counted = len(numbers) - len(lacking)
    text = f"it counts {number_of(counted, 'event')}"
    return fine(f"{text}; not here: {listed(lacking)}" if lacking else text)


def _why(exc: Exception) -> Judgement:
    number = exc.errno if isinstance(exc, OSError) else None
    if number in (errno.EACCES, errno.EPERM, errno.ENOSYS):
        return verdicts.not_counted(number)  # the kernel's word, not sudo's
    return verdicts.helper_failed(f"{type(exc).__name__}: {exc}")


def trial(settings: Settings) -> list[int]:
    """See :meth:`ceilometer_perf.host.counting.Counting.try_events`."""
    with warnings.catch_warnings():
        # oslo.privsep imports eventlet, which warns of itself.
        warnings.simplefilter("ignore")
        from ceilometer_perf.privsep import Helper
    # In a session without a terminal, where sudo asks for no password.
    command = f"setsid --wait {settings.privsep_helper}"
    return Helper(command).try_events(settings.own_events)
