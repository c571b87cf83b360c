# SPDX-License-Identifier: Apache-2.0
"""Hardware counters of OpenStack instances, published only when right."""
