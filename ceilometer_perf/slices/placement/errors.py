# SPDX-License-Identifier: Apache-2.0
"""What Placement refuses, and what can't be expressed in it; one line each."""

from ceilometer_perf.slices.errors import SliceError


class EncodingError(SliceError):
    """No request to Placement would exclude what these slices exclude."""


class PlacementError(SliceError):
    """Placement can't be asked, or refuses."""


class ConflictError(PlacementError):
    """What was read is outdated: read and decide again."""


class NotThereError(ConflictError):
    """Placement has no such thing (404)."""


class ChoiceError(SliceError):
    """An instance has no slice that could be named."""
