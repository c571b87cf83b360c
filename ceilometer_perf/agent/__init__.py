# SPDX-License-Identifier: Apache-2.0
"""What Ceilometer's agent loads. Nothing else imports it."""
