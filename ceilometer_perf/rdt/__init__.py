# SPDX-License-Identifier: Apache-2.0
"""L3 occupancy and memory bandwidth, which come from one of three places.

The perf events cmt, mbmt and mbml, on kernels older than 4.14; the monitors
that an instance's XML asks libvirt for; resctrl groups of our own. All of
them answer with the same :class:`ceilometer_perf.rdt.usage.Usage`.
"""
