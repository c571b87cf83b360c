# SPDX-License-Identifier: Apache-2.0
"""What is installed does not change while tests run: it is read once.

Each time takes a tenth of a second, and each command asks.
"""

import functools
import importlib.metadata

importlib.metadata.entry_points = functools.cache(  # type: ignore[assignment]
    importlib.metadata.entry_points
)
