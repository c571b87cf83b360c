# SPDX-License-Identifier: Apache-2.0
"""Perf counters: read, judged, and what is derived from them."""
