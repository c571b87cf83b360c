# SPDX-License-Identifier: Apache-2.0
"""Sets of CPUs as text.

The grammar is that of ``nova.virt.hardware.parse_cpu_spec``, which reads
nova.conf and the masks of flavors and images: numbers, ranges and exclusions
that begin with ``^``. libvirt's ``virBitmapParse`` has the same grammar, but
minds the order, and has a highest number.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

#: No host and no guest has more: Linux can be built for 8192 CPUs. Without a
#: bound "0-99999999999" would exhaust the reader's memory.
LIMIT = 8191

#: libvirt's VIR_DOMAIN_CPUMASK_LEN: it refuses higher numbers.
LIBVIRT_LIMIT = 16383


def parse(spec: str) -> frozenset[int]:
    """The CPUs that ``spec`` names; exclusions win, wherever they stand.

    Of more than there can be, the lowest LIMIT + 1: the highest of these is
    out of range for any guest, as are those that are left out.

    :raises ValueError: with one line for people, as from ``parse_libvirt``.
    """
    return frozenset(islice(_members(spec), LIMIT + 1))


def _members(spec: str) -> Iterator[int]:
    """In order; no more work for long ranges than for short ones."""
    # How many inclusions and exclusions begin (or, below zero, end) there.
    edges: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for rule in _rules(spec):
        excludes = rule.startswith("^")
        first, last = _range(rule, rule[excludes:])
        edges[first][excludes] += 1
        edges[last + 1][excludes] -= 1
    included = excluded = 0
    for edge, following in pairwise(sorted(edges)):
        included += edges[edge][False]
        excluded += edges[edge][True]
        if included and not excluded:
            yield from range(edge, following)


def parse_libvirt(spec: str) -> frozenset[int]:
    """The CPUs that a cpuset of libvirt's names, read from left to right."""
    included = 0
    for rule in _rules(spec):
        if rule.startswith("^"):
            included &= ~_bits(rule, rule[1:])
        else:
            included |= _bits(rule, rule)
    digits = reversed(f"{included:b}")
    return frozenset(i for i, bit in enumerate(digits) if bit == "1")


def _rules(spec: str) -> Iterator[str]:
    return filter(None, map(str.strip, spec.split(",")))


def _range(rule: str, members: str) -> tuple[int, int]:
    """The first and the last of the numbers that a rule names."""
    low, dash, high = members.partition("-")
    try:
        first = int(low)
        last = int(high) if dash else first
    except ValueError:
        first, last = 1, 0
    if first > last:
        raise ValueError(
            f"{rule[:40]!r} is not a CPU number or range: write CPU sets "
            "such as 0-3,^2,8"
        )
    return first, last


def _bits(rule: str, members: str) -> int:
    """One number or range as a bit mask: cheap, however many overlap."""
    first, last = _range(rule, members)
    if last > LIBVIRT_LIMIT:
        raise ValueError(
            f"{rule[:40]!r} is beyond {LIBVIRT_LIMIT}, libvirt's highest "
            "CPU number"
        )
    return (1 << (last + 1)) - (1 << first)


def text(cpus: Iterable[int]) -> str:
    """The shortest spelling without exclusions: ``0-1,4``."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][-1] == cpu - 1:
            runs[-1][1:] = [cpu]
        else:
            runs.append([cpu])
    return ",".join("-".join(map(str, run)) for run in runs)
