# SPDX-License-Identifier: Apache-2.0
"""What the lab says when it cannot."""


class LabError(Exception):
    """One clear line for the user of a lab."""
