# SPDX-License-Identifier: Apache-2.0
"""Commands of Python's that start in no time: forks of a process that has
imported all they need, which takes them seconds otherwise."""

from tests.warm.process import SPOOL, Process, for_shells, run, start

__all__ = ["SPOOL", "Process", "for_shells", "run", "start"]
