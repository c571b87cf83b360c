# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's face: what its agent loads. Nobody else imports it."""
