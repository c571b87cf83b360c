# SPDX-License-Identifier: Apache-2.0
"""Counts in messages agree with their nouns."""

import pytest

from ceilometer_perf.plural import number_of


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 events"), (1, "1 event"), (2, "2 events")]
)
def test_counted(number: int, said: str) -> None:
    assert number_of(number, "event") == said
