# SPDX-License-Identifier: Apache-2.0
"""What an agent logs once, at start, about its configuration.

Ceilometer's agent logs nothing if a meter in polling.yaml has no pollster.
"""

from oslo_config import cfg
from oslo_log import log

from ceilometer_perf.doctor import agent
from ceilometer_perf.doctor.finding import BrokenError, State
from ceilometer_perf.doctor.patient import Patient

LOG = log.getLogger(__name__)


def advise(conf: cfg.ConfigOpts) -> None:
    """Say in one line what is wrong with polling.yaml; never raises."""
    try:
        finding = agent.polling(Patient(conf, None))
    except BrokenError as error:
        advice = f"{error}; {error.remedy}"
    except Exception as error:  # advice must not make it fail
        advice = f"polling.yaml could not be checked: {error!r}"
    else:
        if finding.state is State.OK:
            return
        advice = f"{finding.reason}; {finding.remedy}"
    # Not above: within `except`, oslo.log appends the exception.
    LOG.warning("%s", advice)
