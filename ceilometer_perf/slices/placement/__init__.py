# SPDX-License-Identifier: Apache-2.0
"""Slices in Placement, so that overlapping ones are never allocated."""
