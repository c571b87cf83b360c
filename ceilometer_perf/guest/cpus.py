# SPDX-License-Identifier: Apache-2.0
"""Sets of CPUs as text.

The grammar is that of ``nova.virt.hardware.parse_cpu_spec``, which reads
nova.conf and the masks of flavors and images: numbers, ranges and exclusions
that begin with ``^``. libvirt's ``virBitmapParse`` has the same grammar, but
minds the order.
"""

from collections.abc import Iterable

from ceilometer_perf.guest import errors

#: No host and no guest has more: Linux can be built for 8192 CPUs. Without a
#: bound "0-99999999999" is a way to fill the memory of whoever reads it.
LIMIT = 8191


def parse(spec: str) -> frozenset[int]:
    """The CPUs that ``spec`` names; exclusions win, wherever they stand.

    Numbers beyond LIMIT become LIMIT, which is out of range just the same.
    """
    included = excluded = 0
    for rule in filter(None, map(str.strip, spec.split(","))):
        if rule.startswith("^"):
            excluded |= _bits(rule, rule[1:])
        else:
            included |= _bits(rule, rule)
    return _members(included & ~excluded)


def parse_libvirt(spec: str) -> frozenset[int]:
    """The CPUs that a cpuset of libvirt's names, read from left to right."""
    included = 0
    for rule in filter(None, map(str.strip, spec.split(","))):
        if rule.startswith("^"):
            included &= ~_bits(rule, rule[1:])
        else:
            included |= _bits(rule, rule)
    return _members(included)


def _members(bits: int) -> frozenset[int]:
    digits = reversed(f"{bits:b}")
    return frozenset(i for i, bit in enumerate(digits) if bit == "1")


def _bits(rule: str, members: str) -> int:
    """One number or range as a bit mask: cheap, however many overlap."""
    low, dash, high = members.partition("-")
    try:
        first = int(low)
        last = int(high) if dash else first
    except ValueError:
        first, last = 1, 0
    if first > last:
        raise errors.NovaRefusal(
            "Invalid",
            f"{rule[:40]!r} is no CPU number and no range of them: write sets "
            "of CPUs like 0-3,^2,8",
        )
    first, last = min(first, LIMIT), min(last, LIMIT)
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
