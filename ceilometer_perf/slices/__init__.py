# SPDX-License-Identifier: Apache-2.0
"""Slices: parts of a host as domain templates that Placement can count."""
