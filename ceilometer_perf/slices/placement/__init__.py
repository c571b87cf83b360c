# SPDX-License-Identifier: Apache-2.0
"""Slices as Placement counts them, so that none that overlap go out."""
