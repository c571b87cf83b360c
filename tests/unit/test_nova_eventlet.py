# SPDX-License-Identifier: Apache-2.0
"""nova-compute of Nova 32 and 33 runs with eventlet in place of threads."""

import subprocess
import sys
from pathlib import Path


def test_the_driver_works_with_eventlet() -> None:
    script = (
        "import eventlet; eventlet.monkey_patch(); "
        "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    )
    tests = Path(__file__).with_name("test_nova_driver.py")
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, "-q", tests],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
