# SPDX-License-Identifier: Apache-2.0
"""The companion: what a guest's domain XML must contain, checked or fixed.

Requirements come from nova.conf, a flavor's extra specs and an image's
properties, by the rules of Nova 34. Nothing here knows telemetry or a libvirt
connection: text goes in, findings or text come out.
"""

from ceilometer_perf.guest.asked import Asked
from ceilometer_perf.guest.companion import Finding, apply, check
from ceilometer_perf.guest.errors import GuestError
from ceilometer_perf.guest.host_facts import HostFacts
from ceilometer_perf.guest.nova_conf import NovaConf
from ceilometer_perf.guest.realtime import Realtime
from ceilometer_perf.guest.requirements import Requirements, resolve

__all__ = [
    "Asked",
    "Finding",
    "GuestError",
    "HostFacts",
    "NovaConf",
    "Realtime",
    "Requirements",
    "apply",
    "check",
    "resolve",
]
