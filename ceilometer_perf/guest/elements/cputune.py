# SPDX-License-Identifier: Apache-2.0
"""``<cputune>`` of a realtime guest, computed from the pins that stand in it.

Nova writes it in ``LibvirtDriver._get_guest_numa_config`` and
``_get_emulatorpin_cpuset``: realtime vCPUs under a fifo scheduler, and QEMU's
own threads, the I/O threads included, kept off the host CPUs of those.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from ceilometer_perf.guest import cpu_policy, cpus, domain, errors, xml
from ceilometer_perf.guest.elements.base import Element
from ceilometer_perf.guest.realtime import Realtime
from ceilometer_perf.guest.requirements import Requirements

ORDER = (
    "shares", "period", "quota", "global_period", "global_quota",
    "emulator_period", "emulator_quota", "iothread_period", "iothread_quota",
    "vcpupin", "emulatorpin", "iothreadpin", "vcpusched",
)  # fmt: skip

REALTIME_SCHEDULERS = ("fifo", "rr")

WHY = "hw:cpu_realtime asks for vCPUs that nothing else delays"
REMEDY = (
    "Hard-reboot the instance so that Nova writes it, or define what guest "
    "apply prints; it holds from the next boot"
)


# vcpusched: who runs under which scheduler


def _scheduled(root: xml.Element) -> Iterator[tuple[xml.Element, set[int]]]:
    """Each vcpusched with the vCPUs that it is about."""
    elements = root.findall("cputune/vcpusched")
    if len(elements) > domain.vcpu_count(root):
        raise errors.DomainXMLError("There are more <vcpusched> than vCPUs")
    for sched in elements:
        yield sched, set(domain.cpu_set(sched, "vcpus"))


def _is_right(sched: xml.Element, wanted: Realtime) -> bool:
    """Whether this is the scheduler that realtime vCPUs must have."""
    return sched.get("scheduler") == "fifo" and sched.get("priority") == str(
        wanted.priority
    )


def _kept(sched: xml.Element, named: set[int], wanted: Realtime) -> set[int]:
    """The vCPUs that may stay under the scheduler that they are under."""
    if _is_right(sched, wanted):
        return named - wanted.housekeeping
    if sched.get("scheduler") in REALTIME_SCHEDULERS:
        return named - wanted.housekeeping - wanted.vcpus
    return named - wanted.vcpus


def _wanted_sched(_root: xml.Element, asked: Requirements) -> Realtime | None:
    return asked.realtime


def _faults_sched(root: xml.Element, wanted: Realtime) -> Iterator[str]:
    once: set[int] = set()
    twice: set[int] = set()
    right: set[int] = set()
    hurried: set[int] = set()
    for sched, named in _scheduled(root):
        twice |= once & named
        once |= named
        if _is_right(sched, wanted):
            right |= named
        if sched.get("scheduler") in REALTIME_SCHEDULERS:
            hurried |= named
    missing = wanted.vcpus - (right - twice)
    if missing:
        yield (
            f"realtime vCPU {cpus.text(missing)} is not scheduled fifo with "
            f"priority {wanted.priority}, and nothing else"
        )
    hurried &= wanted.housekeeping
    if hurried:
        yield f"vCPU {cpus.text(hurried)} is scheduled as if it were realtime"


def _merge_sched(root: xml.Element, wanted: Realtime) -> None:
    right: set[int] = set()
    for sched, named in list(_scheduled(root)):
        kept = _kept(sched, named, wanted) - right
        if _is_right(sched, wanted):
            right |= kept
        if named and not kept:
            xml.remove(sched)
        elif kept != named:
            sched.set("vcpus", cpus.text(kept))
    missing = wanted.vcpus - right
    if missing:
        cputune = domain.container(root, "cputune")
        sched = xml.insert(cputune, "vcpusched", ORDER)
        sched.set("vcpus", cpus.text(missing))
        sched.set("scheduler", "fifo")
        sched.set("priority", str(wanted.priority))


# emulatorpin and iothreadpin: where QEMU's own threads run


@dataclasses.dataclass(frozen=True)
class Pool:
    """Host CPUs for QEMU's own threads."""

    cpus: frozenset[int]
    #: Fewer will do, since CPUs of a shared pool may be offline.
    fewer_will_do: bool = False

    def holds(self, found: frozenset[int]) -> bool:
        """Whether threads pinned to ``found`` are where they belong."""
        if self.fewer_will_do:
            return bool(found) and found <= self.cpus
        return found == self.cpus


def _pool(root: xml.Element, wanted: Realtime) -> Pool:
    """Where the emulator's threads belong, by policy."""
    pins = domain.pins(root)
    if wanted.pool:
        return Pool(wanted.pool, fewer_will_do=True)
    if wanted.emulator_threads:
        # Its own CPU, or a pool that only the host's nova.conf knows.
        return Pool(_standing(root, pins, wanted))
    return Pool(_union(pins[vcpu] for vcpu in wanted.housekeeping))


def _standing(
    root: xml.Element, pins: dict[int, frozenset[int]], wanted: Realtime
) -> frozenset[int]:
    """The CPUs that Nova chose, if they are none that it must not choose."""
    isolated = wanted.emulator_threads == cpu_policy.ISOLATE
    taken = _union(pins[v] for v in (pins if isolated else wanted.vcpus))
    pin = root.find("cputune/emulatorpin")
    found = frozenset() if pin is None else domain.cpu_set(pin, "cpuset")
    if found and not found & taken:
        return found
    what = (
        f"<emulatorpin> puts QEMU's threads on CPU {cpus.text(found & taken)} "
        "of the guest's vCPUs"
        if found
        else "There is no <emulatorpin>"
    )
    raise errors.NotInXMLError(
        f"{what}, although hw:emulator_threads_policy="
        f"{wanted.emulator_threads}",
        "Only Nova knows which host CPU is free for them: hard-reboot or "
        "migrate the instance"
        if isolated
        else "The pool is [compute] cpu_shared_set: give the host's nova.conf",
    )


def _union(sets: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*sets)


def _wanted_pool(root: xml.Element, asked: Requirements) -> Pool | None:
    return _pool(root, asked.realtime) if asked.realtime else None


def _faults_emulator(root: xml.Element, pool: Pool) -> Iterator[str]:
    pin = root.find("cputune/emulatorpin")
    if pin is None:
        yield f"QEMU's threads are not pinned to CPU {cpus.text(pool.cpus)}"
    elif not pool.holds(domain.cpu_set(pin, "cpuset")):
        yield (
            f"QEMU's threads are pinned to CPU {pin.get('cpuset')} instead "
            f"of {cpus.text(pool.cpus)}"
        )


def _merge_emulator(root: xml.Element, pool: Pool) -> None:
    cputune = domain.container(root, "cputune")
    pin = cputune.find("emulatorpin")
    if pin is None:
        pin = xml.insert(cputune, "emulatorpin", ORDER)
    pin.set("cpuset", cpus.text(pool.cpus))


@dataclasses.dataclass(frozen=True)
class IOThreads:
    """The I/O threads of a domain, and where they belong."""

    ids: tuple[int, ...]
    pool: Pool


def _wanted_iothreads(
    root: xml.Element, asked: Requirements
) -> IOThreads | None:
    if asked.realtime is None:
        return None
    ids = tuple(domain.iothread_ids(root))
    return IOThreads(ids, _pool(root, asked.realtime)) if ids else None


def _io_pins(root: xml.Element) -> dict[int, xml.Element]:
    """For each I/O thread the element that pins it."""
    return domain.by_number(root, "cputune/iothreadpin", "iothread")


def _unpinned(root: xml.Element, wanted: IOThreads) -> Iterator[int]:
    pins = _io_pins(root)
    for thread in wanted.ids:
        if thread not in pins or not wanted.pool.holds(
            domain.cpu_set(pins[thread], "cpuset")
        ):
            yield thread


def _faults_iothreads(root: xml.Element, wanted: IOThreads) -> Iterator[str]:
    lost = cpus.text(_unpinned(root, wanted))
    if lost:
        yield (
            f"I/O thread {lost} is not pinned to CPU "
            f"{cpus.text(wanted.pool.cpus)}"
        )


def _merge_iothreads(root: xml.Element, wanted: IOThreads) -> None:
    cputune = domain.container(root, "cputune")
    pins = _io_pins(root)
    for thread in list(_unpinned(root, wanted)):
        pin = pins.get(thread)
        if pin is None:
            pin = xml.insert(cputune, "iothreadpin", ORDER)
            pin.set("iothread", str(thread))
        pin.set("cpuset", cpus.text(wanted.pool.cpus))


VCPUSCHED = Element(
    name="vcpusched",
    where="/domain/cputune/vcpusched",
    why=WHY,
    remedy=REMEDY,
    wanted=_wanted_sched,
    faults=_faults_sched,
    merge=_merge_sched,
)

EMULATORPIN = Element(
    name="emulatorpin",
    where="/domain/cputune/emulatorpin",
    why=f"{WHY}, QEMU's own threads included",
    remedy=REMEDY,
    wanted=_wanted_pool,
    faults=_faults_emulator,
    merge=_merge_emulator,
)

IOTHREADPIN = Element(
    name="iothreadpin",
    where="/domain/cputune/iothreadpin",
    why=f"{WHY}, QEMU's I/O threads included",
    remedy=REMEDY,
    wanted=_wanted_iothreads,
    faults=_faults_iothreads,
    merge=_merge_iothreads,
)
