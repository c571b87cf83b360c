# SPDX-License-Identifier: Apache-2.0
"""The driver of a host's nova-compute, without which slices don't boot."""

from oslo_config import cfg

from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices.placement.encoding import PLACE

#: ``[DEFAULT] compute_driver`` of a host with slices.
NAME = "ceilometer_perf.SlicesDriver"
_OPTS = [cfg.StrOpt("compute_driver")]


def lack(where: NovaFiles) -> str | None:
    """What another driver can't do, in one line; None for ours."""
    with nova_conf.opened(where, {"DEFAULT": _OPTS}) as conf:
        found = conf.DEFAULT.compute_driver
    if found == NAME:
        return None
    return (
        f"{where}: [DEFAULT] compute_driver is {found or 'not set'}: that "
        f"driver boots no slices, and removes {PLACE} from the compute node's "
        "inventory, without which Nova's scheduler finds no host for their "
        f"flavors; set it to {NAME}"
    )
