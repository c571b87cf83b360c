# SPDX-License-Identifier: Apache-2.0
"""Inject faults under the agent for minutes, and count lost or wrong samples.

Each scenario has a lab of its own: a private libvirtd, real QEMU guests. In
all but 'steady' the real ceilometer-polling runs, with a cycle a second,
the shortest possible; 'steady' runs our discovery and pollsters in this
process, one cycle after the other, to run thousands of them.

A sample of a counter is lost where an instance's next one came a cycle too
late, time apart in which the guest was off or its counters rightly withheld.
It is untrue where a clock differs by a tenth from the CPU time that /proc
shows for the QEMU process, where a counter fell though its `since` did not
change, and where its instance was gone.

With --properties the property tests run instead, with random seeds and fifty
times the examples of tools/test.sh: what they find is printed, and should
be added to the test as an @example.

The exit code is 1 if anything is wrong.
"""

import argparse

from tests.soak.what import WHAT


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    parser = argparse.ArgumentParser(
        prog="soak.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            ["scenarios:", *(f"  {n:8}{what}" for n, what in WHAT.items())]
        ),
    )  # fmt: skip
    parser.add_argument(
        "--scenario", nargs="+", choices=WHAT, default=list(WHAT),
        metavar="NAME", help="run only these (default: all, about 35 minutes)",
    )  # fmt: skip
    parser.add_argument("--properties", action="store_true",
                        help="run the property tests for long, with random "
                        "seeds, and no scenario")  # fmt: skip
    parser.add_argument("--short", action="store_true",
                        help="seconds of each, as in the tests")  # fmt: skip
    parser.add_argument("--json", action="store_true",
                        help="JSON on stdout")  # fmt: skip
    return parser
