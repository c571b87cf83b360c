# SPDX-License-Identifier: Apache-2.0
"""Instances that slow each other down, made up, with the truth about it."""
