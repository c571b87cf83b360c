# SPDX-License-Identifier: Apache-2.0
"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def meant(wrong: Iterable[str], right: Iterable[str]) -> list[str]:
    """The closest right name for each wrong one."""
    choice = sorted(right)
    return [
        difflib.get_close_matches(name, choice, 1, 0.0)[0] for name in wrong
    ]
