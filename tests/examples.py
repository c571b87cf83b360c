# SPDX-License-Identifier: Apache-2.0
"""How many examples a property test gets, by the profile that is loaded."""

from hypothesis import settings


def times(factor: float) -> settings:
    """As many times the profile's number: for cheap or for rare cases."""
    return settings(max_examples=int(settings().max_examples * factor))
