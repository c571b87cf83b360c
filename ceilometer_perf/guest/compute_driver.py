# SPDX-License-Identifier: Apache-2.0
"""The driver of a host's nova-compute, without which slices don't boot."""

import importlib.util

from oslo_config import cfg

from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles

#: ``[DEFAULT] compute_driver`` of a host with slices.
NAME = "ceilometer_perf.SlicesDriver"
#: Where Nova looks for it.
MODULE = f"nova.virt.{NAME.partition('.')[0]}"
_OPTS = [cfg.StrOpt("compute_driver")]


def configured(where: NovaFiles) -> str | None:
    """What nova.conf says."""
    with nova_conf.opened(where, {"DEFAULT": _OPTS}) as conf:
        found: str | None = conf.DEFAULT.compute_driver
    return found


def is_missing() -> bool:
    """Whether the Nova that is installed here, if any, does not find ours."""
    if importlib.util.find_spec("nova") is None:
        return False
    return importlib.util.find_spec(MODULE) is None


def lack(where: NovaFiles, place: str) -> str | None:
    """What another driver can't do, in one line; None for ours.

    ``place``: the resource class that flavors of slices take of the node.
    """
    found = configured(where)
    if found == NAME:
        return None
    return (
        f"{where}: [DEFAULT] compute_driver is {found or 'not set'}: that "
        f"driver boots no slices, and removes {place} from the compute node's "
        "inventory, without which Nova's scheduler finds no host for their "
        f"flavors; set it to {NAME}"
    )
