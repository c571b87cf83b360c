# SPDX-License-Identifier: Apache-2.0
"""Installed as ``nova.virt.ceilometer_perf``: where compute_driver is found.

``[DEFAULT] compute_driver = ceilometer_perf.SlicesDriver``
"""

from ceilometer_perf.nova.driver import SlicesDriver

__all__ = ["SlicesDriver"]
