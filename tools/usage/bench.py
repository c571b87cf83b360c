# SPDX-License-Identifier: Apache-2.0
"""Cost of one polling cycle, compared with core's pollsters and bare libvirt.

All variants run on one lab in one run, by turns, so that other load on
the machine affects them alike; figures are medians. Look at the ratios:
seconds differ from machine to machine.

raw        the bare bulk call for perf statistics, from Python
own        our privileged helper's counters of the same guests, by default 10
           events each: the call, its answer, and what the helper does
read       our reading of every counter, without Sample objects
look       read, and judge what was read
own_look   the same with our helper's counters, of instances without events
make       our samples of what has been judged
ours       a whole cycle of all our pollsters: look and make
core_read  what core reads for its four perf meters, without Sample objects
core_make  as many samples as ours, made with core's helper
core       a whole cycle of core's four perf pollsters
virsh      one 'virsh domstats --perf'
discovery  our discovery of the instances; core_discovery is core's
processes  reading each guest's process from /proc; us_per_guest of that
cycle      the agent's cycle: our discovery, then all our pollsters
core_cycle the agent's cycle: core's discovery, then its four perf pollsters

wall_s and cpu_s (user and system, the caller's) are seconds per cycle. What
takes less than 50 ms is repeated in a row, so that it is measured warm like
the slow ones. calls are libvirt's remote procedure calls per cycle,
counted on the wire once all is known: in steady state. virsh opens a
connection each time, and its calls include that. --events core gives the
guests the four events that core reads, and so compares like with like; by
default they have all.

--rdt measures the cost of reading L3 occupancy and memory bandwidth,
by source.

Half of the guests have perf's events, and are read by those and by resctrl
groups of our own; the other half have libvirt's monitors. Figures are per
cycle and for one half.

look          read and judge the perf counters of all guests, for comparison
rdt_perf      the values of perf events, which 'look' has read
rdt_libvirt   libvirt's monitors
rdt_resctrl   groups of our own, in the lab's resctrl
rdt_files     the same groups, copied to plain files

The lab's resctrl is a file system in Python, which takes far longer than a
kernel's: rdt_libvirt and rdt_resctrl are upper bounds, rdt_files is our own
part. With real groups the kernel's part comes on top of that: for each group
and L3 cache an interrupt to one of its CPUs.

--realtime measures what polling does to the CPU of a realtime vCPU.

A realtime guest that never rests is pinned to the last CPU of this host; the
agent and everything else are on the others.

off    nobody polls, a loop spins instead: what the CPU gets anyway
ours   the agent's cycle: our discovery, all our pollsters, own counters, too
core   core's discovery and its four perf pollsters

Each polls without a pause, which shows best what a cycle costs, and is
measured twice. First without a probe: interrupts of the CPU, and how often the
vCPU was switched off it. Then with cyclictest, which has a higher priority
than the vCPU: 2,000 times a second, how late it wakes up on that CPU.

per_second has the medians of all rounds, per_cycle what a cycle adds to 'off':
about zero, where it adds nothing, since the host's noise varies. latency_us is
of all rounds.
"""

import argparse

from tools.usage.numbers import at_least


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    parser = argparse.ArgumentParser(
        prog="bench.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    other = parser.add_mutually_exclusive_group()
    parser.add_argument(
        "--guests", type=at_least(1), default=100, metavar="N",
        help="paused guests, 16 MiB each (default: 100)",
    )  # fmt: skip
    parser.add_argument(
        "--vcpus", type=at_least(1), default=1, metavar="N",
        help="of each guest (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=at_least(1), default=15, metavar="N",
        help="how often each variant runs (default: 15)",
    )  # fmt: skip
    parser.add_argument(
        "--events", choices=("all", "core"), default="all",
        help="the guests' perf events: all, or those that core reads "
        "(default: all)",
    )  # fmt: skip
    other.add_argument(
        "--rdt", action="store_true",
        help="measure L3 occupancy and memory bandwidth by source instead",
    )  # fmt: skip
    other.add_argument(
        "--realtime", action="store_true",
        help="measure what a realtime guest's CPU gets of it instead; its "
        "guests are its own",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true",
                        help="JSON on stdout")  # fmt: skip
    return parser
