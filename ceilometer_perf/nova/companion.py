# SPDX-License-Identifier: Apache-2.0
"""The companion for instances without a slice, whose XML is Nova's."""

from collections.abc import Callable

from oslo_log import log

from ceilometer_perf import guest
from ceilometer_perf.guest import domain, nova_metadata, xml

LOG = log.getLogger(__name__)


def fix(
    novas: str, requirements: Callable[[guest.Asked], guest.Requirements]
) -> str:
    """Nova's XML with what it lacks; as it is, if it can't be fixed."""
    try:
        noted = nova_metadata.read(novas)
        asked = guest.Asked(
            domain.vcpu_count(xml.parse(novas).getroot()),
            noted.flavor or {},
            noted.image or {},
        )
        return guest.apply(novas, requirements(asked))
    except guest.GuestError as error:
        LOG.warning(
            "An instance starts with the XML as Nova made it: %s", error
        )
        return novas
