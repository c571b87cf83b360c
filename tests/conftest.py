# SPDX-License-Identifier: Apache-2.0
"""How property tests draw their examples.

By default from fixed seeds, so that no run fails by chance. With
``--hypothesis-profile=soak`` (``tools/soak.sh --properties``) from random
ones, many more; what they find is printed, and becomes an ``@example``.
"""

import os
import signal

from hypothesis import HealthCheck, settings

# Machines may be busy.
COMMON = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

settings.register_profile(
    "fixed", COMMON, derandomize=True, database=None, max_examples=40
)
settings.register_profile("soak", COMMON, max_examples=2000, print_blob=True)
settings.load_profile("fixed")

# A job in the background of a shell ignores Ctrl-C, and so would all that
# tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Output without a buffer fails when it is written; most people's has one, and
# fails when it is flushed.
os.environ.pop("PYTHONUNBUFFERED", None)

# pytest-xdist tells its workers how wide the terminal is; commands that tests
# run write to a pipe.
os.environ.pop("COLUMNS", None)
