# SPDX-License-Identifier: Apache-2.0
"""What the lab says when it cannot."""


class LabError(Exception):
    """One clear line for whoever wanted a lab."""
