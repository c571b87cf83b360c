# SPDX-License-Identifier: Apache-2.0
"""Nova's functional tests with a driver of choice in place of Nova's.

``python -m tools.nova_tests DRIVER FILE NAME...``: a class, the file that
gets a line for each test, its outcome and its id, and what to run.
"""

import os
import sys
import unittest
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nova.tests.unit  # noqa: F401 - first: it starts eventlet, if any
import testtools
from nova.virt import libvirt
from oslo_utils import importutils

SECONDS = "600"  # for one test


def main() -> int:
    """Tracebacks go to stderr."""
    driver, path, *names = sys.argv[1:]
    os.environ.setdefault("OS_TEST_TIMEOUT", SECONDS)
    # All of these tests have compute_driver = libvirt.LibvirtDriver.
    libvirt.LibvirtDriver = importutils.import_class(driver)
    hosts = _hosts_of(libvirt.LibvirtDriver)
    tests = unittest.defaultTestLoader.loadTestsFromNames(names)
    with Path(path).open("w", buffering=1) as file:

        def note(
            test: Any, status: str, details: Mapping[str, Any], **_: Any
        ) -> None:
            file.write(f"{status} {test.id()}\n")
            for name, content in details.items():
                if name.startswith("traceback"):
                    print(f"{test.id()}\n{content.as_text()}", file=sys.stderr)

        tests.run(testtools.TestByTestResult(note))
    if not hosts:
        sys.exit(f"no test used {driver}")
    return 0


def _hosts_of(driver: Any) -> list[str]:
    """Those that the driver is started on, from now on."""
    hosts = []
    start = driver.init_host

    def init_host(self: Any, host: str) -> None:
        hosts.append(host)
        start(self, host)

    driver.init_host = init_host
    return hosts


if __name__ == "__main__":
    sys.exit(main())
