# SPDX-License-Identifier: Apache-2.0
"""Counts in messages."""


def number_of(number: int, noun: str) -> str:
    """``1 event`` or ``2 events``; the noun's plural is regular."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
