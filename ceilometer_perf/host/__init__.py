# SPDX-License-Identifier: Apache-2.0
"""What is known about this host. Nothing else imports ``libvirt``."""
