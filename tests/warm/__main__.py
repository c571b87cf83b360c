# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.warm COMMAND ARGUMENT...``, for shells."""

import sys

from tests.warm.process import start

sys.exit(start(sys.argv[1:], stdin=0, stdout=1, stderr=2).wait())
