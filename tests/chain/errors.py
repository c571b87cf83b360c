# SPDX-License-Identifier: Apache-2.0
"""What the chain says when it cannot."""


class ChainError(Exception):
    """One clear line for the user of a chain."""
