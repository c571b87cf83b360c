# SPDX-License-Identifier: Apache-2.0
"""What a guest's XML must contain, from nova.conf, a flavor and an image.

The order of the checks is that of Nova's API, ``API.
_validate_flavor_image_numa_pci``, followed by the compute host's: of several
mistakes the one that Nova reports is reported.
"""

import dataclasses

from oslo_log import log

from ceilometer_perf.guest import cpu_policy, enabled_events, memory
from ceilometer_perf.guest import pmu as guest_pmu
from ceilometer_perf.guest import realtime as guest_realtime
from ceilometer_perf.guest.asked import Asked
from ceilometer_perf.guest.host_facts import HostFacts
from ceilometer_perf.guest.nova_conf import NovaConf
from ceilometer_perf.guest.realtime import Realtime

#: The last libvirt whose monitors must name vCPUs.
BY_VCPUS = (12, 5)

LOG = log.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Requirements:
    """What the XML must contain; anything else may be there or not."""

    perf_events: tuple[str, ...] = ()
    pmu: bool | None = None
    locked: bool = False
    realtime: Realtime | None = None
    #: Of L3 occupancy and memory bandwidth; Nova does not have them.
    monitors: bool = False
    #: They may be of the whole process, instead of vCPUs.
    whole_monitors: bool = False
    #: Lines for the operator: what was ignored, and why.
    notes: tuple[str, ...] = dataclasses.field(default=(), compare=False)


def resolve(
    asked: Asked,
    conf: NovaConf | None = None,
    host: HostFacts | None = None,
    *,
    monitors: bool = False,
) -> Requirements:
    """Work out the requirements, or refuse as Nova would.

    Without ``conf`` nothing is assumed of the compute host, and the guest is
    judged as Nova's API judges it, before a host is chosen.
    """
    asked.check_image()
    pmu = guest_pmu.pmu(asked)
    vcpus = guest_realtime.realtime_vcpus(asked)
    cpu_policy.check(asked, vcpus)
    memory.check_page_size(asked)
    locked = memory.locked(asked)
    host = host or HostFacts()
    realtime = guest_realtime.realtime(asked, vcpus, conf, host)
    perf_events, ignored = enabled_events.choose(
        conf.perf_events if conf else (), host
    )
    notes = asked.notes() + ignored
    for note in notes:
        LOG.warning("%s", note)
    return Requirements(
        perf_events=perf_events,
        pmu=pmu,
        locked=locked or realtime is not None,
        realtime=realtime,
        monitors=monitors,
        whole_monitors=(host.libvirt or BY_VCPUS)[:2] > BY_VCPUS,
        notes=notes,
    )
