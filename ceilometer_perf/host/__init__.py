# SPDX-License-Identifier: Apache-2.0
"""What is known of this host. Nobody else imports ``libvirt``."""
