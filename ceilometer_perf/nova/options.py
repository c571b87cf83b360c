# SPDX-License-Identifier: Apache-2.0
"""Options of nova.conf that the driver adds to ``[libvirt]``."""

from oslo_config import cfg

from ceilometer_perf.slices import spec

GROUP = "libvirt"
OPTS = [
    *spec.OPTS,
    cfg.BoolOpt(
        "guest_monitors",
        default=False,
        help="Have libvirt monitor the L3 occupancy and the memory bandwidth "
        "of each instance that starts. It refuses to start any where resctrl "
        "is not mounted or has no monitoring group left.",
    ),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For the config generator."""
    return [(GROUP, OPTS)]
