# SPDX-License-Identifier: Apache-2.0
"""Read the command line of a tool: its name, then its arguments.

Says nothing, and exits with 0, if there is nothing to say.
"""

import importlib
import sys

if __name__ == "__main__":
    tool = importlib.import_module(f"tools.usage.{sys.argv[1]}")
    tool.parser().parse_args(sys.argv[2:])
