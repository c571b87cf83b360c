# SPDX-License-Identifier: Apache-2.0
"""A whole OpenStack on this machine: real services, on the loopback alone."""
