# SPDX-License-Identifier: Apache-2.0
"""Watcher's strategy that separates neighbours.

Nothing else here imports Watcher, and this imports hardly anything else, so
that Watcher's hosts need none of this package's dependencies.
"""
