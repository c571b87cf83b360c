# SPDX-License-Identifier: Apache-2.0
"""The lab's command line, for tools/lab.sh."""

import sys

from tests.lab.cli import main

sys.exit(main())
